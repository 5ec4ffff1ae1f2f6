# livehook as a container image: the program alone, as a user without rights, on a root file system that may be read-only.
#
#     docker build --build-arg LIVEHOOK_REVISION="$(git rev-parse HEAD)" -t livehook .
#
# README.md, "Container", says how to run it.

FROM rust:1.95-slim-bookworm AS build
# The client of Kafka and its OpenSSL are compiled along.
RUN apt-get update && apt-get install -y --no-install-recommends g++ make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The folder that the volume is filled from, so that it belongs to the user of the image.
RUN mkdir /empty
COPY . .
# Shown by the metric livehook_build_info.
ARG LIVEHOOK_REVISION=unknown
# Dependencies are kept in the two caches between builds. Touched, our own sources are never taken for older than what
# the cache holds of another checkout.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,sharing=locked \
    touch src/lib.rs src/main.rs \
    && cargo build --release --locked --all-features --bin livehook \
    && cp target/release/livehook /livehook

FROM gcr.io/distroless/cc-debian12:nonroot
ARG LIVEHOOK_REVISION=unknown
LABEL org.opencontainers.image.title="livehook" \
      org.opencontainers.image.description="Receiver for the event callbacks of Tencent Cloud Streaming Services (CSS)" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.revision="${LIVEHOOK_REVISION}"
COPY --from=build /build/LICENSE-MIT /build/LICENSE-APACHE /usr/share/doc/livehook/
COPY --from=build /livehook /usr/local/bin/livehook
COPY --from=build --chown=65532:65532 /empty /data
# The callbacks are for others to reach, so a start without a callback key ends with exit code 78 and says what to set.
# The admin listener stays on the loopback address inside until an address and a token are given.
# What large bodies have used goes back to the system at once: glibc otherwise raises this threshold to twice the largest
# block it has seen, and keeps as much in each of its heaps.
ENV GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072 \
    LIVEHOOK_SERVER__LISTEN=0.0.0.0:8080 \
    LIVEHOOK_STORE__URL=sqlite:/data/livehook.db
# Relative paths of handlers lead into the volume, the one place that can be written.
WORKDIR /data
VOLUME /data
USER 65532:65532
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/livehook", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/livehook"]
