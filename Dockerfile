# The server alone: one static binary, the roots that TLS trusts, and nobody's rights.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# With the target named, the flag is for the binary and not for what runs while it is built.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" \
    && cp "target/$target/release/todo-backend" /todo-backend

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /todo-backend /todo-backend
USER 65534:65534
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/todo-backend", "--healthcheck"]
ENTRYPOINT ["/todo-backend"]
