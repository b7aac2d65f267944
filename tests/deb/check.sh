#!/usr/bin/env bash
# Installs, upgrades, removes and purges the Debian package in a clean root, and looks at everything on the way. As root.
# Usage: tests/deb/check.sh PACKAGE.deb
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/apt.sh
package=$(realpath "$1")

missing=()
for need in lintian debootstrap systemd-analyze; do
  PATH=$PATH:/usr/sbin command -v $need >/dev/null || missing+=("${need/systemd-analyze/systemd}")
done
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
step() { echo "ok $*"; }
die() { echo "FAILED: $*" >&2; exit 1; }

lintian --fail-on error "$package"
step "lintian finds no error"

exposure=$(systemd-analyze security --offline=true deploy/systemd/auscult.service | sed -n 's/.*exposure level.*: \([0-9.]*\).*/\1/p')
awk "BEGIN { exit !($exposure < 3.0) }" || die "exposure $exposure"
step "systemd-analyze security: exposure $exposure"

root=$(mktemp -d /tmp/auscult-deb-XXXXXX)
# The agent runs in it as a user of its own.
chmod 755 "$root"
trap 'umount -q "$root/proc" || true; rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >"$root.log" 2>&1 || { cat "$root.log"; die debootstrap; }
rm -f "$root.log"
mount -t proc proc "$root/proc"
inside() { chroot "$root" "$@"; }
apt() { inside env DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends "$@" >"$root/tmp/apt.log" 2>&1 || { cat "$root/tmp/apt.log"; die "apt-get $*"; }; }
cp "$package" "$root/tmp/auscult.deb"
apt install /tmp/auscult.deb
inside auscult --version
[ "$(inside stat -c %a /usr/bin/auscult)" = 755 ] || die "mode of the program"
inside getent passwd auscult >/dev/null || die "no user"
for file in /etc/auscult/agent.toml /etc/default/auscult /lib/systemd/system/auscult.service /usr/share/man/man1/auscult.1.gz \
  /usr/share/man/man1/auscult-run.1.gz /usr/share/bash-completion/completions/auscult /usr/share/zsh/vendor-completions/_auscult \
  /usr/share/fish/vendor_completions.d/auscult.fish /usr/share/doc/auscult/copyright /usr/share/doc/auscult/configuration.md; do
  [ -e "$root$file" ] || [ -e "$root/usr$file" ] || die "$file is missing"
done
inside dpkg-query -W -f '${Conffiles}' auscult | grep -q /etc/auscult/agent.toml || die "agent.toml is no conffile"
# The unit, without its program, which is not on this machine.
mkdir "$root/tmp/unit"
sed 's#^ExecStart=.*#ExecStart=/bin/true#' deploy/systemd/auscult.service >"$root/tmp/unit/auscult.service"
faults=$(systemd-analyze verify --man=no "$root/tmp/unit/auscult.service" 2>&1) || die "the unit: $faults"
[ -z "$faults" ] || die "the unit: $faults"
# The agent as it is shipped: no machine is configured, so it waits for its page to be opened.
install -d -o "$(inside id -u auscult)" -g "$(inside id -g auscult)" "$root/var/lib/auscult"
chroot --userspec=auscult:auscult "$root" env AUSCULT__WEB__LISTEN=127.0.0.1:0 AUSCULT__MQTT__URL=none \
  timeout 60 auscult run --config /etc/auscult/agent.toml >"$root/tmp/run.log" 2>&1 &
agent=$!
tries=0
until grep -q 'waiting for set-up' "$root/tmp/run.log"; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { cat "$root/tmp/run.log"; die "the agent as it is shipped does not wait for set-up"; }
  sleep 0.2
done
page=$(sed -n 's#.*\(http://127[^ ]*\)/.*#\1#p' "$root/tmp/run.log" | head -1)
python3 -c "import json, urllib.request; assert json.load(urllib.request.urlopen('$page/session'))['role'] == 'operator'" || die "its page does not answer"
kill $agent
wait $agent || true
rm -rf "$root/var/lib/auscult"
inside bash -c 'source /usr/share/bash-completion/completions/auscult && complete -p auscult' >/dev/null || die "completion"
step "installed: program, user, unit, conffiles, man pages, completions"

echo 'AUSCULT__AGENT__ID=pi-7' >>"$root/etc/default/auscult"
mkdir -p "$root/var/lib/auscult"
echo outbox >"$root/var/lib/auscult/outbox.sqlite"
dpkg-deb -R "$package" "$root/tmp/next"
sed -i 's/^Version: .*/Version: 99.0.0-1/' "$root/tmp/next/DEBIAN/control"
echo '# a line of the next version' >>"$root/tmp/next/etc/auscult/agent.toml"
dpkg-deb -b --root-owner-group "$root/tmp/next" "$root/tmp/next.deb" >/dev/null
apt install /tmp/next.deb
grep -q pi-7 "$root/etc/default/auscult" || die "the upgrade lost settings"
grep -q 'next version' "$root/etc/auscult/agent.toml" || die "the upgrade did not bring its own file where nobody had changed it"
[ "$(cat "$root/var/lib/auscult/outbox.sqlite")" = outbox ] || die "the upgrade lost the outbox"
step "upgraded: settings and outbox are kept"

apt remove auscult
[ ! -e "$root/usr/bin/auscult" ] || die "the program is still there"
[ -e "$root/etc/default/auscult" ] && [ -e "$root/var/lib/auscult/outbox.sqlite" ] || die "removing took settings or outbox"
apt purge auscult
for left in /etc/auscult /etc/default/auscult /var/lib/auscult /lib/systemd/system/auscult.service; do
  [ ! -e "$root$left" ] || die "purged, and $left is still there"
done
step "removed and purged: nothing is left"
