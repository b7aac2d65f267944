#!/bin/sh
# Writes the users of RabbitMQ and what each may do, as definitions that every node loads:
#
#   ./rights.sh fleet.txt passwords.txt > definitions.json
#
# fleet.txt has an agent in each line: address, id, tags (docs/fleet.md); an agent has no password, its certificate says who it
# is. passwords.txt has a person or program in each line: name, `operator` (sees all and commands) or `viewer` (sees all),
# password; only its hash is written. With another mqtt.root, set ROOT; its parts are joined by dots.
set -eu
root=${ROOT:-auscult}

die() { echo "error: $*" >&2; exit 1; }
[ $# -eq 2 ] && [ -r "$1" ] && [ -r "$2" ] || die "expected the list of agents and the list of passwords, found '$*'"
case $root in '' | *[!A-Za-z0-9._-]*) die "expected a root of A-Z a-z 0-9 _ - and dots, found '$root'" ;; esac
r=$(printf '%s' "$root" | sed 's/\./\\\\./g')

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# As RabbitMQ keeps it: Base64 of a salt of four bytes and the SHA-256 of salt and password.
hash() {
  openssl rand 4 > "$scratch/salt"
  { cat "$scratch/salt"; printf '%s' "$1"; } | openssl dgst -sha256 -binary > "$scratch/sum"
  cat "$scratch/salt" "$scratch/sum" | openssl base64 -A
}

# user NAME HASH QUEUES WRITE READ, into three lists; QUEUES are the sessions that are theirs
user() {
  printf '%s{"name":"%s","password_hash":"%s","hashing_algorithm":"rabbit_password_hashing_sha256","tags":[],"limits":{}}' "$comma" "$1" "$2" >> "$scratch/users"
  printf '%s{"user":"%s","vhost":"/","configure":"^%s$","write":"^(amq\\\\.topic|%s)$","read":"^(amq\\\\.topic|%s)$"}' "$comma" "$1" "$3" "$3" "$3" >> "$scratch/permissions"
  printf '%s{"user":"%s","vhost":"/","exchange":"amq.topic","write":"%s","read":"%s"}' "$comma" "$1" "$4" "$5" >> "$scratch/topics"
  comma=',
    '
}

comma=
: > "$scratch/users"
while read -r address id tags; do
  case $id in
    '') case $address in '' | \#*) continue ;; *) die "expected address, id and tags, found '$address'" ;; esac ;;
    fleet) die "'$id' is reserved" ;;
    *.*) die "RabbitMQ takes the '.' in '$id' for a '/': choose an agent.id without it" ;;
    *[!A-Za-z0-9_-]*) die "expected an agent.id (A-Z a-z 0-9 _ -), found '$id'" ;;
  esac
  # As an agent, as auscult check and as the page that tries a broker.
  session="mqtt-subscription-($(printf '%s' "$root" | tr . -)-$id|auscult-(check|trial)-[0-9a-f]+)qos[01]"
  user "$id" "" "$session" "^$r\\\\.$id\\\\." "^$r\\\\.(fleet\\\\.control|$id\\\\.(status|control|[^.]+\\\\.threshold\\\\.set))\$"
done < "$1"
while read -r name role password; do
  case $name in '' | \#*) continue ;; *[!A-Za-z0-9_-]*) die "expected a name (A-Z a-z 0-9 _ -), found '$name'" ;; esac
  [ -n "$password" ] || die "expected name, role and password, found '$name $role'"
  case $role in
    operator) write="^$r\\\\.[^.]+\\\\.(control|[^.]+\\\\.threshold\\\\.set)\$" ;;
    viewer) write='^$' ;;
    *) die "expected 'operator' or 'viewer', found '$role'" ;;
  esac
  user "$name" "$(hash "$password")" "mqtt-subscription-.*" "$write" "^$r\\\\."
done < "$2"

cat <<END
{
  "vhosts": [{"name":"/"}],
  "users": [
    $(cat "$scratch/users")
  ],
  "permissions": [
    $(cat "$scratch/permissions")
  ],
  "topic_permissions": [
    $(cat "$scratch/topics")
  ]
}
END
