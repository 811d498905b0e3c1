#!/bin/bash
# Starts image_repo and nginx before it, and ends both when one ends or when it is told to.
# Arguments are image_repo's. (bash, because POSIX sh cannot wait for whichever ends first.)
set -eu
: "${SWIFT_SH:=/swift.sh}" "${NGINX_CONF:=/etc/image_repo/nginx.conf}" "${NGINX_FOLDER:=/cache/nginx}"

if [ ! -r "$SWIFT_SH" ]; then
    echo "$SWIFT_SH cannot be read by user $(id -u): allow it (chmod), or run as its owner (--user)" >&2
    exit 1
fi
# shellcheck source=swift.sh
. "$SWIFT_SH"
if [ -n "${SWIFT_P:-}" ]; then export IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CONTAINER="$SWIFT_P"; fi
if [ -n "${SWIFT_C:-}" ]; then export IMAGE_REPO_SWIFT_CACHE_CONFIGURATION__CONTAINER="$SWIFT_C"; fi
mkdir -p "$NGINX_FOLDER/temp"

asked=
trap 'asked=yes' TERM INT QUIT      # only wakes the wait below

image_repo "$@" &
app=$!
nginx -p "$NGINX_FOLDER" -c "$NGINX_CONF" -e stderr -g 'daemon off;' &
front=$!

status=0
[ -n "$asked" ] || wait -n "$app" "$front" || status=$?

# nginx first, and gracefully: requests on their way still find image_repo.
kill -QUIT "$front" 2>/dev/null || :
while kill -0 "$front" 2>/dev/null; do wait "$front" || :; done
# Again each second: in the first milliseconds of its start uWSGI ignores SIGTERM.
while kill -TERM "$app" 2>/dev/null; do
    sleep 1 >/dev/null 2>&1 &
    wait -n "$app" "$!" || :
done

[ -z "$asked" ] || exit 0
[ "$status" -ne 0 ] || status=1     # neither ends by itself when all is well
exit "$status"
