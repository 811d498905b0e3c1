# Where the pictures are. Fill in a copy of this file and mount it over the one in the image:
#
#   docker run -p 80:80 -v /path/to/swift.sh:/swift.sh IMAGE

# export OS_AUTH_URL=https://identity.example.org:5000/v3
# export OS_USERNAME=
# export OS_PASSWORD=
# export OS_TENANT_NAME=
# export OS_TENANT_ID=

# export SWIFT_P=test_image_repo          # container of the originals (persistent)
# export SWIFT_C=test_image_repo_cache    # container of the renditions (cache)

# Nothing filled in, nothing in the environment, no configuration among the arguments: say what to do.
if [ $# -eq 0 ] && [ -z "${OS_AUTH_URL:-}${ST_AUTH:-}" ] &&
    [ "${IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__KIND:-auto}" = auto ]; then
    cat >&2 <<'ADVICE'
image_repo does not know where its pictures are. One of:

  * mount a script that exports OS_AUTH_URL OS_USERNAME OS_PASSWORD OS_TENANT_NAME OS_TENANT_ID,
    SWIFT_P (container of the originals) and SWIFT_C (container of the renditions):
        docker run --rm --entrypoint cat IMAGE /swift.sh > swift.sh    # a template to fill in
        docker run -p 80:80 -v "$PWD/swift.sh:/swift.sh" IMAGE
  * give the same by the environment:
        docker run -p 80:80 -e OS_AUTH_URL=... -e OS_USERNAME=... -e OS_PASSWORD IMAGE
  * keep them on a volume instead of in Swift:
        docker run -p 80:80 -v pictures:/data -e IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__KIND=disk IMAGE
ADVICE
    exit 1
fi
