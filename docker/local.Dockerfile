# The whole local stack in one container: `docker run` and `compose.yaml`. Built on the CPU models.
ARG MODELS_IMAGE=limelight-models:0.1.0
FROM ${MODELS_IMAGE}
LABEL org.opencontainers.image.title="limelight-local" \
      org.opencontainers.image.description="Limelight's gateway, planner and segmenter together"
EXPOSE 50551 9464
CMD ["limelight", "up", "--foreground", "--host", "0.0.0.0"]
