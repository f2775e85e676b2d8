# An image with everything installed, for machines without a network:
#   docker build -t reprozoo .
#   docker run --gpus all -v "$PWD/root:/root-folder" -v "$PWD/data:/data" reprozoo runner submit --suite quickstart
# torch includes its CUDA libraries. The host needs only NVIDIA's driver and container toolkit.
FROM python:3.11-slim

# git gives the commit for records; make and uv install the packages of requirements.lock.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN pip install --quiet --no-cache-dir uv

WORKDIR /reprozoo
# Packages first, so that a change of the sources does not install them again.
COPY pyproject.toml requirements.lock Makefile README.md LICENSE ./
COPY benchmarks/__init__.py benchmarks/
COPY runner/__init__.py runner/
COPY zoo/__init__.py zoo/
RUN UV_NO_CACHE=1 make setup
COPY . .
RUN git config --system --add safe.directory /reprozoo && touch .venv/.installed

# Runs and data are kept outside of the image.
ENV PATH="/reprozoo/.venv/bin:$PATH" REPROZOO_ROOT=/root-folder REPROZOO_DATA=/data
RUN mkdir -p /root-folder /data && chmod 1777 /root-folder /data
VOLUME ["/root-folder", "/data"]
CMD ["runner", "--help"]
