# image_repo with nginx in front of it on port 80 (the last stage, built by default), and by itself on port 5000:
#
#   docker build -t image-repo .
#   docker build -t image-repo:bare --target bare .
#
# Nothing secret is built in: credentials come at start, by OS_* in the environment or a mounted file.

# The Debian that nginx.conf is tested with. With HEIC and S3: --build-arg EXTRAS=[heif,s3]
ARG PYTHON=3.12-slim-bookworm

# -- everything that Python needs, in one folder; what pip leaves behind stays here --------------------------------------
FROM python:${PYTHON} AS build
ARG EXTRAS=
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
RUN python -m venv /opt/image_repo
RUN /opt/image_repo/bin/pip install --no-cache-dir --disable-pip-version-check ".${EXTRAS}"

# -- what both images share ----------------------------------------------------------------------------------------------
FROM python:${PYTHON} AS base
# /data holds originals where there is no Swift; all of /cache can be thrown away. Open as /tmp is, so that
# `docker run --user` works; what image_repo makes inside is its own alone.
RUN useradd --system --uid 10001 --no-create-home --home-dir /data image_repo \
    && install --directory --owner image_repo --mode 1777 /data /cache
COPY --from=build /opt/image_repo /opt/image_repo
# The first process: Python takes no signal before it has started, and would be killed where it is stopped meanwhile.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
# Swift: OS_AUTH_URL OS_USERNAME OS_PASSWORD OS_TENANT_NAME OS_TENANT_ID, or any of the usual OS_*, at start.
ENV PATH=/opt/image_repo/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IMAGE_REPO_LISTEN=0.0.0.0:5000 \
    IMAGE_REPO_PID_FILE=/tmp/image_repo.pid \
    IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__PATH=/data/image_repo_data \
    IMAGE_REPO_LOCAL_CACHE_CONFIGURATION__CACHE_PATH=/cache/image_server \
    IMAGE_REPO_LOCAL_FILE_CACHE_PATH=/cache/image_repo
WORKDIR /data
VOLUME ["/data", "/cache"]
USER image_repo
STOPSIGNAL SIGTERM

# -- by itself -----------------------------------------------------------------------------------------------------------
FROM base AS bare
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["tini", "--", "image_repo"]

# -- with nginx ----------------------------------------------------------------------------------------------------------
FROM base AS nginx
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx \
    && rm -rf /var/lib/apt/lists/*
COPY docker/nginx.conf docker/place.conf /etc/image_repo/
COPY docker/entrypoint.sh docker/swift.sh /
USER image_repo
ENV IMAGE_REPO_LISTEN=127.0.0.1:5000
EXPOSE 80
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:80/health', timeout=4)"]
ENTRYPOINT ["/entrypoint.sh"]
