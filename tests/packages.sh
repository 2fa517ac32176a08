# Sourced by the test scripts: messages, and Debian packages that are installed when their command is absent.

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

# Installs a Debian package when its command is absent.
need() {
  local command=$1 package=$2
  command -v "$command" >/dev/null 2>&1 && return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || die "$command is absent: install $package"
  say "installing $package"
  if [ -z "${lists_updated:-}" ]; then apt-get update -qq; lists_updated=1; fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
  command -v "$command" >/dev/null 2>&1 || die "$package is installed, but there is no $command"
}
