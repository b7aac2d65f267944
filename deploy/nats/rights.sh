#!/bin/sh
# Writes the users of NATS and what each may do, for the nodes' configuration:
#
#   ./rights.sh fleet.txt > users.conf
#
# fleet.txt has an agent in each line: address, id, tags (docs/fleet.md). Beside the agents there are `operator`, who sees all
# and commands, and `viewer`, who sees all. Who somebody is, is said by the certificate's name (certificates.sh). With another
# mqtt.root, set ROOT; its parts are joined by dots.
set -eu
root=${ROOT:-auscult}

die() { echo "error: $*" >&2; exit 1; }
[ $# -eq 1 ] && [ -r "$1" ] || die "expected the list of agents, found '$*'"
case $root in '' | *[!A-Za-z0-9._-]*) die "expected a root of A-Z a-z 0-9 _ - and dots, found '$root'" ;; esac

# user NAME PUBLISH SUBSCRIBE
user() {
  printf '    { user: "CN=%s", permissions: { publish: %s, subscribe: { allow: [%s, "$MQTT.sub.>"] } } }\n' "$1" "$2" "$3"
}

echo "authorization {"
echo "  users: ["
while read -r address id tags; do
  case $id in
    '') case $address in '' | \#*) continue ;; *) die "expected address, id and tags, found '$address'" ;; esac ;;
    fleet | operator | viewer) die "'$id' is reserved" ;;
    *.*) die "NATS takes the '.' in '$id' for a '/': choose an agent.id without it" ;;
    *[!A-Za-z0-9_-]*) die "expected an agent.id (A-Z a-z 0-9 _ -), found '$id'" ;;
  esac
  user "$id" "{ allow: [\"$root.$id.>\"] }" \
    "\"$root.$id.status\", \"$root.$id.control\", \"$root.$id.*.threshold.set\", \"$root.fleet.control\""
done < "$1"
user operator "{ allow: [\"$root.*.control\", \"$root.*.*.threshold.set\"] }" "\"$root\", \"$root.>\""
user viewer "{ deny: \">\" }" "\"$root\", \"$root.>\""
echo "  ]"
echo "}"
