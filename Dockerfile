# The coordinator as a container: one static binary, no shell, no user names, nothing to write to.
#
#   docker build --tag edgekeep .                                    compiles it
#   docker build --tag edgekeep --target prebuilt FOLDER -f Dockerfile   takes FOLDER/edgekeep and FOLDER/ca-certificates.crt
#
# Both images are the stage `base` and two files; `cargo xtask test container` builds and runs the second kind.

FROM scratch AS base
LABEL org.opencontainers.image.title="Edgekeep coordinator" \
      org.opencontainers.image.description="Logins, sessions and the revocation feed, on Postgres" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# Numeric, because there is no /etc/passwd; and so that Kubernetes' runAsNonRoot can see that it is not root.
USER 65532:65532
# Containers are reached from outside; the default of the binary is loopback.
ENV EDGEKEEP_LISTEN=0.0.0.0:8700 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
EXPOSE 8700
# GET /readyz: it answers polls of the feed. (Images in OCI format carry no health check; compose.yaml repeats it.)
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["/edgekeep", "health"]
ENTRYPOINT ["/edgekeep"]
CMD ["serve"]

FROM base AS prebuilt
COPY --chmod=0444 ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chmod=0555 edgekeep /edgekeep

FROM docker.io/library/rust:1.95.0-slim-bookworm AS build
# The toolchain of the image, whatever else rust-toolchain.toml asks for (lints and wasm are not needed here).
ENV RUSTUP_TOOLCHAIN=1.95.0 SQLX_OFFLINE=true
WORKDIR /src
COPY . .
# Static glibc rather than musl: the same allocator and memory routines as on a server, and names resolve from
# /etc/hosts and DNS without any further file. `--target` keeps the flag away from build scripts and macros.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" && \
    RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --profile image --package edgekeep --bin edgekeep --target "$target" && \
    cp "target/$target/image/edgekeep" /edgekeep && \
    if ldd /edgekeep | grep -q '=>'; then echo "the binary is not static" >&2; exit 1; fi

FROM base
COPY --from=build --chmod=0444 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chmod=0555 /edgekeep /edgekeep
