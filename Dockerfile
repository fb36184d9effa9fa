# The image is the binary, the CA bundle and three lines of /etc: no shell, no libc, no package.
#
# Why a static binary on an empty root and not a dynamic one on a distroless base: such a base
# alone takes about 20 MB unpacked. The usual objection, that libc cannot look names up in an empty
# root, does not hold for what we need: since glibc 2.34 `files` and `dns` are built into libc, and
# a statically linked binary finds names through /etc/hosts and /etc/resolv.conf (with its search
# list), which every container runtime provides. `.ci/image` proves it on the image.

# Any Debian 12 (glibc 2.36 or newer) with cargo, a C compiler, libc's static archive and
# ca-certificates will do.
ARG BUILDER_IMAGE=docker.io/library/rust:1.95-bookworm

FROM ${BUILDER_IMAGE} AS build
WORKDIR /src
COPY . .
# The two caches keep the registry and the compiled dependencies, which a changed line of ours then
# leaves alone; what is wanted must therefore be copied out of them. Our own crate is touched, since
# cargo goes by modification times and the cache may hold a later build of other sources.
# The flags do not reach procedural macros, which cannot be static. Packed, the relocations of a
# position-independent program take 20 KB and not 640 (glibc applies them since 2.36).
RUN --mount=type=cache,id=weir-cargo,target=/var/cache/cargo,sharing=locked \
    --mount=type=cache,id=weir-target,target=/src/target,sharing=locked \
    find src -name '*.rs' -exec touch {} + \
 && CARGO_HOME=/var/cache/cargo RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" \
    deploy/build \
 && install -D target/dist/weir /image/usr/local/bin/weir
RUN install -d -m 0755 /image/etc/weir \
 && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
 && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
 && echo 'weir:x:65532:65532:weir:/:/sbin/nologin' > /image/etc/passwd \
 && echo 'weir:x:65532:' > /image/etc/group
# Fails the build when the binary does not start by itself as that user. Here and not in the last
# stage, where a RUN would leave mount points behind.
RUN ["chroot", "--userspec=65532:65532", "/image", "/usr/local/bin/weir", "version"]

FROM scratch
COPY --from=build /image /
# Numbers, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 65532:65532

# 8080: a listener for HTTP as in the examples; 14490: admin, on loopback unless configured.
EXPOSE 8080 14490
HEALTHCHECK --interval=5s --timeout=2s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/weir", "healthcheck", "--ready"]
ENTRYPOINT ["/usr/local/bin/weir"]
CMD ["run", "--config", "/etc/weir/weir.yaml"]

# Last, since these change with every commit.
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="A Layer-7 traffic-splitting proxy that judges new versions itself" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
