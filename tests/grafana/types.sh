#!/usr/bin/env bash
# Checks the dashboards against Grafana's own types (@grafana/schema), as Grafana itself cannot be had from a registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/npm.sh
dir=target/grafana-schema
npm_packages tests/grafana/package.json $dir
{
  cat <<'END'
import type { Dashboard } from '@grafana/schema';
// Enums as the JSON that they are written as.
type Json<T> = T extends string ? (string extends T ? string : `${T}`)
  : T extends number ? (number extends T ? number : `${T}` extends `${infer N extends number}` ? N : never)
  : T extends boolean | null | undefined ? T
  : T extends readonly (infer U)[] ? Json<U>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
END
  for board in deploy/grafana/dashboards/*.json; do
    echo "export const $(basename "$board" .json): Json<Dashboard> ="
    cat "$board"
  done
} >$dir/boards.ts
$dir/node_modules/.bin/tsc --noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022 $dir/boards.ts
echo "the dashboards are what @grafana/schema 11.1.0 expects"
