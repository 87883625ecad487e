#!/bin/sh
# /etc/letsencrypt/renewal-hooks/post/certctl: certbot runs it after every attempt to renew something.
#
# Raises RenewalFailure for each domain that could not be renewed: once a day, though certbot's timer tries twice.
set -euf

environment=${CERTCTL_ENV:-/etc/certctl/certctl.env}
if [ -r "$environment" ]; then
    set -a
    . "$environment"
    set +a
fi

today=$(date -u +%Y-%m-%d)
status=0
for domain in ${FAILED_DOMAINS:-}; do
    "${CERTCTL:-certctl}" notifications create \
        --type RenewalFailure \
        --channel "${CERTCTL_HOOK_CHANNEL:-Email}" \
        --recipient "${CERTCTL_HOOK_RECIPIENT:?set it in $environment}" \
        --certificate "$domain" \
        --message "certbot on $(hostname) could not renew $domain; see /var/log/letsencrypt/letsencrypt.log" \
        --dedup-key "renewal-failed:$domain:$today" || status=$?
done
exit "$status"
