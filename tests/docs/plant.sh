#!/usr/bin/env bash
# A plant in a network of its own, so that the docs' hosts and ports can be taken as they stand; then types in one page.
# Usage: unshare --map-root-user --net --mount --pid --fork tests/docs/plant.sh PROJECT AUSCULT DIR
# DIR holds the page's code blocks as NN.sh, each with the line "# PAGE:LINE" on top; all that is made comes into DIR too.
set -euo pipefail
project=$1 program=$2 dir=$3
cd "$dir"
mkdir bin home && ln -s "$program" bin/auscult
export HOME=$dir/home PATH=$dir/bin:$PATH:/usr/sbin:/sbin BROKER=broker USER=ana SSL_CERT_FILE=$dir/plant-certs/ca.pem
ip link set lo up
echo "127.0.0.1 localhost broker models.example files.plant.example" >hosts
mount --bind hosts /etc/hosts

# A broker on the usual ports, and a web server.
certificates() { CERTS=$dir/plant-certs "$project/deploy/mosquitto/certificates.sh" "$@" >>certificates.log; }
certificates ca
certificates broker broker models.example files.plant.example localhost
cat >mosquitto.conf <<END
user root
allow_anonymous true
listener 1883
listener 8883
certfile $dir/plant-certs/broker.pem
keyfile $dir/plant-certs/broker.key
END
mosquitto -c mosquitto.conf >mosquitto.log 2>&1 &
cat >web.py <<'END'
import http.server, ssl
server = http.server.ThreadingHTTPServer(("", 443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("plant-certs/broker.pem", "plant-certs/broker.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
END
python3 web.py >web.log 2>&1 &

# What lies around: bundles, recordings, keys, a list of Pis.
ln -s "$project/models" models
ln -s "$project/deploy" deploy
ln -s "$project/examples" examples
copy() { cp -r "$project/models/demo" "$1" && rm "$1/bundle.toml"; }
mkdir bundles
copy bundles/site-fans-2025.1 && copy site-fans && copy new-bundle
auscult bundle pack bundles/site-fans-2025.1 --name site-fans --bundle-version 2025.1 --out first.tar.gz >/dev/null
auscult bundle pack new-bundle --name site-fans --bundle-version 2025.3 >/dev/null
ln -s site-fans-2025.1 bundles/current
auscult synth blower --id blower-a --minutes 0.2 -o recording.wav >/dev/null
mkdir recordings
auscult synth blower --id blower-a --minutes 4 -o recordings/1.wav >/dev/null
# Without a password: deriving a key from one takes seconds of a processor, on purpose.
minisign -G -W -f -p minisign.pub -s secret.key >/dev/null 2>&1

# Two agents. The blower is ill from the start, so that there is an alarm to handle.
for id in pi-7 pi-8; do
  cat >$id.toml <<END
agent = { id = "$id", tags = ["north", "canary"], state_dir = "$dir/$id" }
mqtt.url = "mqtt://broker:1883"
bundle = { path = "$dir/$id-bundles/current", allow_from = ["models.example", "files.plant.example"], ca_file = "$dir/plant-certs/ca.pem" }
privacy.allow_audio = true
[[machine]]
id = "blower-1"
model = "blower-a"
threshold = 0.05
source = { synth = "blower", fault = "rub", speed = 100 }
END
  cp -r bundles $id-bundles
  auscult run --config $id.toml 2>$id.log &
done
cp pi-7.toml agent.toml
sed -i "s#\"pi-7\"#\"pi-9\"#; s#/pi-7\"#/pi-9\"#" agent.toml
touch heard
command mosquitto_sub -h broker -v -t '#' >>heard &

heard() {
  local times=600
  until grep -aEq "$1" heard; do
    times=$((times - 1))
    [ $times -gt 0 ] || { echo "never heard: $1"; tail -n 3 pi-7.log; return 1; } >&2
    sleep 0.1
  done
}
heard '^auscult/pi-8/blower-1/verdict'
heard '^auscult/pi-7/blower-1/alarm .*"active"'

# A block's own `wait` must not wait for these.
disown -a

# What the docs abbreviate, take an hour over, or date: the newest archive's sum, three minutes, in two hours.
meant() {
  local word sum later
  later=$(date -u -d '2 hours' +%FT%TZ)
  sum=$(sha256sum "$(ls -t ./*.tar.gz | head -n 1)" | cut -c1-64)
  words=()
  for word; do
    word=${word/#SUM/$sum} word=${word/9f2c.../$sum} word=${word/#60/3} word=${word/#7200/200}
    word=${word/\"minutes\":60/\"minutes\":3} word=${word/2026-03-01T14:00:00Z/$later}
    words+=("$word")
  done
  case $* in *baseline.apply*) heard '^auscult/pi-7/blower-1/event .*"baseline_learned"' ;; esac
}
# What a person would end by hand or answer.
minisign() { command minisign "$@" -W -s secret.key; }
sudo() { [ "$1" != -u ] || shift 2; "$@"; }
mosquitto_sub() {
  case " $* " in *" -W "*) command mosquitto_sub "$@" || [ $? = 27 ] ;; *) command mosquitto_sub -W 2 "$@" || [ $? = 27 ] ;; esac
}
auscult() {
  case "$*" in
    run*) timeout -s TERM 5 "$dir/bin/auscult" "$@" || [ $? = 124 ] ;;
    watch*) script -qec "timeout -s INT 3 $dir/bin/auscult $*" /dev/null >watch.log || [ $? = 124 ] ;;
    simulate*) command auscult "$@" --seconds 3 ;;
    # It starts anew.
    *state.import*) command auscult "$@" && heard '^auscult/pi-7/event .*"state_imported"' ;;
    *) meant "$@" && command auscult "${words[@]}" ;;
  esac
}
# Every command that is published must be answered with ok.
mosquitto_pub() {
  meant "$@"
  command mosquitto_pub "${words[@]}"
  local id
  id=$(sed -n 's/.*{"id":"\([^"]*\)","command".*/\1/p' <<<"$*")
  [ -z "$id" ] || heard "^auscult/pi-7/reply .*\"id\":\"$id\".*\"status\":\"ok\"" ||
    { grep -a "^auscult/pi-7/reply .*\"id\":\"$id\"" heard >&2; return 1; }
}

for block in [0-9]*.sh; do
  where=$(sed -n '1s/^# //p' "$block")
  trap 'echo "FAILED $where: $BASH_COMMAND" >&2; tail -n 5 pi-7.log >&2' ERR
  echo "== $where, after ${SECONDS}s"
  set -E
  source "$block"
  set +E
  trap - ERR
done
! grep -a panicked pi-*.log
