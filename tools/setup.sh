# shellcheck shell=bash
# Sourced by tools/quickstart and tests/run: says what is done, and installs what is missing.
# Callers have `set -euo pipefail`.

# Exit status of both programs when packages are missing and cannot be installed.
readonly STATUS_MISSING=3

step() {
    printf '==> %s\n' "$*"
}

complain() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

links_with_sanitizers() {
    printf 'int main(void) { return 0; }\n' |
        clang -fsanitize=address,undefined -x c -o /dev/null - >/dev/null 2>&1
}

# Is Debian package $1 installed, or what it would bring there in some other way?
have_package() {
    local status
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) || true
    [ "$status" != installed ] || return 0
    case $1 in
    build-essential) command -v gcc && command -v g++ && command -v make ;;
    ninja-build) command -v ninja ;;
    liburing-dev) pkg-config --exists liburing ;;
    libcmocka-dev) pkg-config --exists cmocka ;;
    libssl-dev) pkg-config --exists openssl ;;
    llvm-14) command -v llvm-symbolizer || command -v llvm-symbolizer-14 ;;
    libclang-rt-14-dev) links_with_sanitizers ;;
    libboost-dev) [ -e /usr/include/boost/version.hpp ] ;;
    *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

# Prints those of the packages that are not there.
missing_packages() {
    local package
    for package in "$@"; do
        have_package "$package" || printf '%s\n' "$package"
    done
}

# Runs apt-get as root, its words in file $1. A stale package list is no reason to stop.
apt_install() {
    local log=$1 as_root=()
    shift
    [ "$EUID" -eq 0 ] || as_root=(sudo -n)
    as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
    "${as_root[@]}" update >"$log" 2>&1 || true
    "${as_root[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null
}

# Ends the program: packages $2... are missing, for reason $1.
refuse_missing() {
    local reason=$1
    shift
    complain "missing: $*"
    complain "$reason"
    complain "on Debian 12, run as root:  apt-get update && apt-get install -y $*"
    complain "on another system, install what these packages contain, then run this again"
    exit "$STATUS_MISSING"
}

# Installs those of the packages that are not there, or ends the program and says how to get them.
need_packages() {
    local missing log
    mapfile -t missing < <(missing_packages "$@")
    if [ "${#missing[@]}" -eq 0 ]; then
        printf '    all %d packages are there\n' "$#"
        return
    fi
    if ! command -v apt-get >/dev/null; then
        refuse_missing "there is no apt-get here to install with" "${missing[@]}"
    fi
    if [ "$EUID" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        refuse_missing "installing needs root, or sudo without a password" "${missing[@]}"
    fi
    printf '    installing %s\n' "${missing[*]}"
    log=$(mktemp)
    if ! apt_install "$log" "${missing[@]}"; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        mapfile -t missing < <(missing_packages "${missing[@]}")
        refuse_missing "apt-get failed, its last words are above" "${missing[@]}"
    fi
    rm -f "$log"
}
