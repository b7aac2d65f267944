#!/bin/sh
# Hands the verdicts of a fleet from a broker to PostgreSQL, until one of them ends it; a service starts it again.
#
#   ./take.sh [arguments of mosquitto_sub: -h HOST -p PORT --cafile FILE -u USER -P PASSWORD ...]
#
# PGHOST, PGDATABASE, PGUSER say which database; auscult.sql has been run there. With another mqtt.root, set ROOT.
set -eu
mosquitto_sub "$@" -q 1 -c -i "${CLIENT:-auscult-postgres}" -t "${ROOT:-auscult}/+/+/verdict" -F "select auscult.take('%x');" |
  psql -X -q -v ON_ERROR_STOP=1 -o /dev/null
