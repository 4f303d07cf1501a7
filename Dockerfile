# A server of the bundled models.  docker build -t lexiseg .
# docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -p 127.0.0.1:8000:8000 -v "$PWD/key:/run/secrets/key:ro" lexiseg
FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/lexiseg \
    && /opt/lexiseg/bin/pip install --no-cache-dir -c constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu ".[serve]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin lexiseg
COPY --from=build /opt/lexiseg /opt/lexiseg
ENV PATH=/opt/lexiseg/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=5)"]
# Without the key's file it does not start: the port is open to whoever the container's network is.
ENTRYPOINT ["lexiseg", "serve", "--host", "0.0.0.0", "--api-key-file", "/run/secrets/key"]
