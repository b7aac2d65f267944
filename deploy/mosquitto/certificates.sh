#!/bin/sh
# Makes the certificates of a plant: its own authority, the broker's, one for each agent.
#
#   ./certificates.sh ca                       ca.pem, ca.key
#   ./certificates.sh broker NAME [NAME|IP...] broker.pem, broker.key: the names by which agents reach the broker
#   ./certificates.sh node NAME [NAME|IP...]   NAME.pem, NAME.key: of one broker in a cluster, which also shows it to the others
#   ./certificates.sh agent ID                 ID.pem, ID.key: ID is the agent's agent.id, or who else logs in by certificate
#
# In the folder CERTS (default ./certs). Keys are readable by their owner only. Expiry: the authority after CA_DAYS
# (default 3650), the others after DAYS (default 825); the dates are printed, and `openssl x509 -enddate -noout -in FILE`
# tells them again. To renew one, run its command again: agents and broker take the new file with the next connection or
# restart. ca.key is what everything hangs on: keep it off the broker.
set -eu
umask 077
certs=${CERTS:-certs}
days=${DAYS:-825}
ca_days=${CA_DAYS:-3650}

die() { echo "error: $*" >&2; exit 1; }
usage() { sed -n '4,7s/^# *//p' "$0" >&2; exit 2; }

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

until_when() {
  echo "$1: $(openssl x509 -in "$1" -noout -subject -nameopt RFC2253 | cut -d= -f2-), valid until $(openssl x509 -in "$1" -noout -enddate | cut -d= -f2)"
}

# sign NAME COMMON_NAME EXTENSIONS
sign() {
  [ -f "$certs/ca.key" ] || die "$certs/ca.key is missing: run '$0 ca' first"
  key "$certs/$1.key.new"
  printf '%s\nbasicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' "$3" >"$certs/$1.ext"
  openssl req -new -key "$certs/$1.key.new" -subj "/CN=$2" |
    openssl x509 -req -sha256 -days "$days" -CA "$certs/ca.pem" -CAkey "$certs/ca.key" \
      -set_serial "0x$(openssl rand -hex 16 | sed 's/^./1/')" -extfile "$certs/$1.ext" -out "$certs/$1.pem.new" 2>"$certs/$1.log" ||
    die "$(cat "$certs/$1.log")"
  rm -f "$certs/$1.ext" "$certs/$1.log"
  mv "$certs/$1.key.new" "$certs/$1.key"
  chmod 644 "$certs/$1.pem.new"
  mv "$certs/$1.pem.new" "$certs/$1.pem"
  until_when "$certs/$1.pem"
}

[ $# -ge 1 ] || usage
what=$1
shift
mkdir -p "$certs"
case $what in
  ca)
    [ $# -eq 0 ] || usage
    [ ! -e "$certs/ca.key" ] || die "$certs/ca.key exists: with a new authority every certificate must be made anew; move it away first"
    key "$certs/ca.key"
    openssl req -x509 -new -sha256 -key "$certs/ca.key" -days "$ca_days" -subj "/CN=auscult plant CA" \
      -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$certs/ca.pem"
    chmod 644 "$certs/ca.pem"
    until_when "$certs/ca.pem"
    ;;
  broker | node)
    [ $# -ge 1 ] || usage
    names=
    for name in "$@"; do
      case $name in
        *[!A-Za-z0-9.:-]*) die "expected host names and addresses, found '$name'" ;;
        *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$name" ;;
        *) names="$names,DNS:$name" ;;
      esac
    done
    case $what in broker) file=broker usage=serverAuth ;; node) file=$1 usage=serverAuth,clientAuth ;; esac
    case $file in ca | *:*) die "expected the node's host name first, found '$1'" ;; esac
    sign "$file" "$1" "subjectAltName=${names#,}
keyUsage=critical,digitalSignature
extendedKeyUsage=$usage"
    ;;
  agent)
    [ $# -eq 1 ] || usage
    case $1 in
      fleet | ca | broker) die "'$1' is reserved" ;;
      '' | *[!A-Za-z0-9._-]* | .*) die "expected an agent.id (A-Z a-z 0-9 _ - .), found '$1'" ;;
    esac
    [ ${#1} -le 64 ] || die "expected at most 64 characters, found ${#1}"
    sign "$1" "$1" "keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth"
    ;;
  *) usage ;;
esac
