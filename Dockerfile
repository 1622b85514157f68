# syntax=docker/dockerfile:1
# poolwright as one static binary in an empty image: no shell, no package manager, not root.
#
#   docker build -t poolwright:0.1.0 .
#
# For the machine's own architecture, amd64 or arm64; `docker buildx build --platform …` emulates the other.

FROM rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends musl-tools ca-certificates \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# ring has C code: musl-gcc compiles it, and Rust's musl targets link statically.
RUN set -eu; \
    target="$(uname -m)-unknown-linux-musl"; \
    rustup target add "$target"; \
    TARGET_CC=musl-gcc cargo build --release --locked --target "$target" --bin poolwright; \
    install -D "target/$target/release/poolwright" /out/poolwright; \
    if ldd /out/poolwright 2>/dev/null | grep -q '=>'; then echo "the binary is not static" >&2; exit 1; fi; \
    mkdir -m 0750 -p /out/state

FROM scratch
LABEL org.opencontainers.image.title="poolwright" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/poolwright/poolwright"
# For TLS to a Prometheus outside of the cluster.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/state /var/lib/poolwright
COPY --from=build /out/poolwright /poolwright
USER 65532:65532
EXPOSE 8080 6443 9443
ENTRYPOINT ["/poolwright"]
CMD ["--help"]
