#!/usr/bin/env bash
# Puts auscult on one Pi over ssh, or brings it up to date; run again, it changes only what differs.
#
#   provision.sh ADDRESS ID TAGS PACKAGE.deb AGENT.toml
#
# Certificates are taken from CERTS (default ./certs, as deploy/mosquitto/certificates.sh makes them). SSH (default "ssh")
# and SCP (default "scp") may carry options; the user there needs sudo.
set -euo pipefail
[ $# -eq 5 ] || { sed -n '4p' "$0" >&2; exit 2; }
address=$1 id=$2 tags=$3 package=$4 config=$5
certs=${CERTS:-certs} ssh=${SSH:-ssh} scp=${SCP:-scp}

for file in "$package" "$config" "$certs/ca.pem" "$certs/$id.pem" "$certs/$id.key"; do
  [ -r "$file" ] || { echo "error: $file is missing" >&2; exit 1; }
done
there=$($ssh "$address" mktemp -d)
trap '$ssh "$address" rm -rf "$there" </dev/null' EXIT
environment=$(mktemp)
cat >"$environment" <<END
AUSCULT__AGENT__ID=$id
AUSCULT__AGENT__TAGS=$tags
AUSCULT__MQTT__CA_FILE=/etc/auscult/ca.pem
AUSCULT__MQTT__CERT_FILE=/etc/auscult/$id.pem
AUSCULT__MQTT__KEY_FILE=/etc/auscult/$id.key
END
$scp -q "$environment" "$address:$there/environment"
rm -f "$environment"
$scp -q "$package" "$address:$there/auscult.deb"
$scp -q "$config" "$address:$there/agent.toml"
$scp -q "$certs/ca.pem" "$certs/$id.pem" "$certs/$id.key" "$address:$there/"

$ssh "$address" sudo sh -s "$there" "$id" <<'END'
set -eu
there=$1 id=$2 changed=
wanted=$(dpkg-deb -f "$there/auscult.deb" Version)
if [ "$(dpkg-query -W -f '${Version}' auscult 2>/dev/null || true)" != "$wanted" ]; then
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq -o Dpkg::Options::=--force-confold "$there/auscult.deb" >/dev/null
  changed=package
fi
put() { # FILE MODE OWNER PLACE
  cmp -s "$there/$1" "$4" && return 0
  install -m "$2" -o "$3" -g "$3" "$there/$1" "$4"
  changed="$changed $4"
}
put agent.toml 644 root /etc/auscult/agent.toml
put environment 644 root /etc/default/auscult
put ca.pem 644 root /etc/auscult/ca.pem
put "$id.pem" 644 root "/etc/auscult/$id.pem"
put "$id.key" 600 auscult "/etc/auscult/$id.key"
systemctl enable --quiet auscult
if [ -n "$changed" ]; then systemctl restart auscult; else systemctl start auscult; fi
echo "$id: ${changed:-up to date}"
END
