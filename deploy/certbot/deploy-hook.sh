#!/bin/sh
# /etc/letsencrypt/renewal-hooks/deploy/certctl: certbot runs it after each certificate that it renewed.
#
# Raises RenewalSuccess. The archive's file name (cert7.pem) is new with every renewal, and so is the key:
# running the hook again raises nothing twice.
set -eu

environment=${CERTCTL_ENV:-/etc/certctl/certctl.env}
account=${CERTCTL_USER:-certctl}

# certbot is root, and whoever may write the environment file need not be: it is read here and never run.
setting() {
    [ ! -r "$environment" ] || sed -n "s/^$1=//p" "$environment" | tail -n 1 | sed "s/^[\"']\(.*\)[\"']\$/\1/"
}
as_account() {
    if [ "$(id -u)" = 0 ] && id "$account" > /dev/null 2>&1; then
        runuser -u "$account" -- "$@"
    else
        "$@"
    fi
}

channel=${CERTCTL_HOOK_CHANNEL:-$(setting CERTCTL_HOOK_CHANNEL)}
recipient=${CERTCTL_HOOK_RECIPIENT:-$(setting CERTCTL_HOOK_RECIPIENT)}
certificate=$(basename "$RENEWED_LINEAGE")
edition=$(readlink "$RENEWED_LINEAGE/cert.pem") || {
    # Without it every renewal would have one key, and the second one would raise nothing.
    echo "$RENEWED_LINEAGE/cert.pem is not certbot's link to its archive" >&2
    exit 1
}

[ ! -e "$environment" ] || set -- --env-file "$environment"
as_account "${CERTCTL:-certctl}" "$@" notifications create \
    --type RenewalSuccess \
    --channel "${channel:-Email}" \
    --recipient "${recipient:?set CERTCTL_HOOK_RECIPIENT in $environment}" \
    --certificate "$certificate" \
    --message "$certificate was renewed on $(hostname): $RENEWED_DOMAINS" \
    --dedup-key "renewed:$certificate:${edition##*/}"
