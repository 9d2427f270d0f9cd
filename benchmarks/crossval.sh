#!/usr/bin/env bash
# Cross-validation from scans to a table of all patients:
#   bash benchmarks/crossval.sh sample OUT              the sample's 12 synthetic patients, three folds, whole scans
#   bash benchmarks/crossval.sh slices TREE OUT EPOCHS  stacks of slices in Task06_Lung's layout, with nnU-Net's
#                                                       splits_final.json beside dataset.json
# What is in the trees and what comes out stands in benchmarks/README.md.  Stopped and run again, it goes on.
# Research only, not a medical device, not for clinical use.
set -euo pipefail

usage() {
  echo "usage: bash $0 sample OUT | bash $0 slices TREE OUT EPOCHS" >&2
  exit 2
}

lungseg=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/lungseg
[ -x "$lungseg" ] || lungseg=lungseg

run() {
  printf '\n$ lungseg'
  printf ' %q' "$@"
  printf '\n'
  "$lungseg" "$@"
}

case ${1:-} in
  sample)
    [ $# -eq 2 ] || usage
    out=$2
    mkdir -p "$out"
    run sample "$out/Task06_Lung"
    run preprocess "$out/Task06_Lung" "$out/slices" --skip-slices 4
    run crossval "$out/slices" "$out/run" --n-folds 3 --recipe demo
    run predict "$out/run" "$out/Task06_Lung/imagesTs" "$out/predictions"
    ;;
  slices)
    [ $# -eq 4 ] || usage
    tree=$2 out=$3 epochs=$4
    [ -e "$tree/splits_final.json" ] || { echo "$0: there is no $tree/splits_final.json" >&2; exit 2; }
    mkdir -p "$out"
    run verify "$tree" --json "$out/verify.json"
    # The slices were counted from the 31st of each scan on: there is none left to skip.
    run preprocess "$tree" "$out/slices" --skip-slices 0 --slice-sets
    run crossval "$out/slices" "$out/run" --splits "$tree/splits_final.json" --recipe demo --epochs "$epochs"
    ;;
  *) usage ;;
esac
echo
echo "Everything is in $out/run: evaluation/{cases.csv,summary.json,report.html}, folds/"
