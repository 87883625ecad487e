#!/bin/sh
# /etc/letsencrypt/renewal-hooks/deploy/certctl: certbot runs it after each certificate that it renewed.
#
# Raises RenewalSuccess. The archive's file name (cert7.pem) is new with every renewal, and so is the key:
# running the hook again raises nothing twice.
set -eu

environment=${CERTCTL_ENV:-/etc/certctl/certctl.env}
if [ -r "$environment" ]; then
    set -a
    . "$environment"
    set +a
fi

certificate=$(basename "$RENEWED_LINEAGE")
edition=$(readlink "$RENEWED_LINEAGE/cert.pem") || {
    # Without it every renewal would have one key, and the second one would raise nothing.
    echo "$RENEWED_LINEAGE/cert.pem is not certbot's link to its archive" >&2
    exit 1
}

exec "${CERTCTL:-certctl}" notifications create \
    --type RenewalSuccess \
    --channel "${CERTCTL_HOOK_CHANNEL:-Email}" \
    --recipient "${CERTCTL_HOOK_RECIPIENT:?set it in $environment}" \
    --certificate "$certificate" \
    --message "$certificate was renewed on $(hostname): $RENEWED_DOMAINS" \
    --dedup-key "renewed:$certificate:${edition##*/}"
