# Sourced by the set-up of the heavy tests, in the project's root: NATS as Debian 13 has it, beside an older one of the system. Three
# nodes of Debian 12's lose messages, and of those that were killed some never catch up (docs/fleet.md).
if ! dpkg --compare-versions "$(dpkg-query -W -f '${Version}' nats-server)" ge 2.10 && [ ! -x target/nats/nats-server ]; then
  echo "fetching NATS of Debian 13"
  nats=$(mktemp -d)
  mkdir -p "$nats"/{sources,lists/partial,cache/archives/partial} target/nats
  cat >"$nats/sources/trixie.sources" <<END
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
  apt_of_13() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$nats/sources" -o Dir::State::lists="$nats/lists" \
      -o Dir::Cache="$nats/cache" -o APT::Sandbox::User="$(id -un)" "$@"
  }
  apt_of_13 update
  (cd "$nats" && apt_of_13 download nats-server)
  dpkg -x "$nats"/nats-server_*.deb "$nats/unpacked"
  cp "$nats/unpacked/usr/sbin/nats-server" target/nats/
  rm -rf "$nats"
fi
