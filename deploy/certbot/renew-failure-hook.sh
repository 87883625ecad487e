#!/bin/sh
# /etc/letsencrypt/renewal-hooks/post/certctl: certbot runs it after every attempt to renew something.
#
# Raises RenewalFailure for each domain that could not be renewed: once a day, though certbot's timer tries twice.
set -euf

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
today=$(date -u +%Y-%m-%d)
status=0
[ ! -e "$environment" ] || set -- --env-file "$environment"
for domain in ${FAILED_DOMAINS:-}; do
    as_account "${CERTCTL:-certctl}" "$@" notifications create \
        --type RenewalFailure \
        --channel "${channel:-Email}" \
        --recipient "${recipient:?set CERTCTL_HOOK_RECIPIENT in $environment}" \
        --certificate "$domain" \
        --message "certbot on $(hostname) could not renew $domain; see /var/log/letsencrypt/letsencrypt.log" \
        --dedup-key "renewal-failed:$domain:$today" || status=$?
done
exit "$status"
