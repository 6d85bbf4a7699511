# A server and a worker for every plugin, on the CPU. Building and use: docs/scale.md
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY appliedpapers ./appliedpapers
# which plugins: extras, separated by commas
ARG EXTRAS=all
# for pip, such as --extra-index-url and the address of an index with CPU builds of torch
ARG PIP_OPTIONS=""
RUN python -m venv /opt/apps \
    && /opt/apps/bin/pip install --no-cache-dir -c constraints.txt "setuptools>=77" \
    && /opt/apps/bin/pip install --no-cache-dir --no-build-isolation -c constraints.txt $PIP_OPTIONS \
        ".[$EXTRAS]" "psycopg[binary]" \
    && /opt/apps/bin/pip check

FROM python:3.11-slim
# what LightGBM and XGBoost are linked against
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/apps /opt/apps
RUN useradd --create-home --uid 1000 apps && mkdir /data && chown apps /data
ENV PATH=/opt/apps/bin:$PATH PYTHONUNBUFFERED=1 MLFLOW_DISABLE_TELEMETRY=true
USER 1000
WORKDIR /data
EXPOSE 5001
# health needs no token
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5001/v2/health/ready', timeout=4)"]
CMD ["apps", "serve", "frets@champion", "--host", "0.0.0.0", "--port", "5001"]
