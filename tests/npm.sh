# Sourced by the set-ups, in the project's root: packages from npm.
. tests/apt.sh
# npm_packages LIST DIRECTORY: what the package.json LIST names, in DIRECTORY/node_modules. Once, and one at a time, as tests run side by side.
npm_packages() {
  local list=$1 directory=$2
  mkdir -p "$directory"
  (
    flock 9
    # What is installed is known by a copy of the list that is made last.
    if cmp -s "$list" "$directory/installed.json"; then exit 0; fi
    command -v npm >/dev/null || apt_install nodejs npm
    echo "installing what $list names"
    cp "$list" "$directory/package.json"
    npm install --prefix "$directory" --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
    cp "$list" "$directory/installed.json"
  ) 9>"$directory.lock"
}
