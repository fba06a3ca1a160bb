# lit-ghibli on the CPU, for any command:
#   docker build -t lit-ghibli .
#   docker run --rm -v "$PWD:/work" lit-ghibli stylize photo.jpg
#   docker run --rm -p 127.0.0.1:7860:7860 lit-ghibli app host=0.0.0.0
FROM python:3.11-slim AS build
WORKDIR /source
RUN pip install --no-cache-dir "build>=1.2"
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY lit_ghibli lit_ghibli
RUN python -m build --wheel --outdir /wheels

FROM python:3.11-slim
# pip reads PIP_EXTRA_INDEX_URL: an index with torch's builds for CPUs saves gigabytes of CUDA's libraries.
ARG PIP_EXTRA_INDEX_URL
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[app,export,video]" && rm -r /wheels
RUN useradd --create-home --uid 1000 painter && mkdir /work && chown painter /work
USER 1000
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["lit-ghibli"]
CMD ["--help"]
