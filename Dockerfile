# The server alone: one static binary, and nobody's rights. tests/image.sh holds it to what is said here.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cp "$(./dev static)" /todo-backend

FROM scratch
COPY --from=build /todo-backend /todo-backend
USER 65534:65534
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/todo-backend", "--healthcheck"]
ENTRYPOINT ["/todo-backend"]
