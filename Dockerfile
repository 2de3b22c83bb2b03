ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/app/.venv
WORKDIR /app
# Dependencies first: this layer changes only with the lock file.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-default-groups --extra otel --no-install-project
COPY README.md LICENSE ./
COPY migrations migrations
COPY gateway gateway
RUN uv sync --locked --no-default-groups --extra otel --no-editable

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="gateway" \
      org.opencontainers.image.description="Durable e-mail and agent jobs in one process" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --system --gid 10001 gateway \
 && useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --uid 10001 --gid 10001 gateway
# Owned by root: the process can change nothing of itself, and a read-only root file system is no hindrance.
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONFAULTHANDLER=1
WORKDIR /app
# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001
EXPOSE 3003
STOPSIGNAL SIGTERM
# Alive, not ready: a restart does not bring a lost database back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["gateway", "health"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
