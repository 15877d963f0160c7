# PostgreSQL's official image, with transcribe in it.
#
#   docker build -t postgres-transcribe .
#   docker build -t postgres-transcribe:18 --build-arg PG_MAJOR=18 .
#
# The first stage makes the Debian package (see debian/), the second installs it:
# what it depends on is found out once, there.  New clusters load the library at
# their start.  A volume that has a cluster already needs it said once more:
# ALTER SYSTEM SET shared_preload_libraries = 'transcribe', and a restart.

ARG PG_MAJOR=17

FROM postgres:${PG_MAJOR} AS build
# For one PostgreSQL, where the package itself would be built for all.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install -y --no-install-recommends \
        build-essential debhelper pkg-config \
        postgresql-common-dev "postgresql-server-dev-$PG_MAJOR" \
        libcurl4-openssl-dev libavformat-dev libavcodec-dev libavutil-dev \
        libswresample-dev libebur128-dev libseccomp-dev
COPY . /build/transcribe
WORKDIR /build/transcribe
RUN PG_SUPPORTED_VERSIONS="$PG_MAJOR" DEB_BUILD_OPTIONS=noautodbgsym \
    dpkg-buildpackage -us -uc -b -d

FROM postgres:${PG_MAJOR}
# hadolint ignore=DL3008
RUN --mount=type=bind,from=build,source=/build,target=/build \
    apt-get update && \
    apt-get install -y --no-install-recommends /build/*.deb ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    echo "shared_preload_libraries = 'transcribe'" >> \
        /usr/share/postgresql/postgresql.conf.sample
