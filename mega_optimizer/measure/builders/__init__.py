"""Image builders behind one Protocol: docker, buildah or podman, whichever answers."""
