# Plait from source, then alone on a small Debian.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin plait

FROM debian:12.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin plait
COPY --from=build /src/target/release/plait /usr/local/bin/plait
USER 10001:10001
WORKDIR /etc/plait
ENV PLAIT_CONFIG=/etc/plait/plait.toml
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=2m --retries=4 CMD ["plait", "status", "--json"]
ENTRYPOINT ["plait"]
CMD ["run"]
