#!/usr/bin/env bash
# The whole pipeline on real CT: bash benchmarks/real_data.sh VOLUMES_TREE SLICES_TREE OUT [MINUTES]
# Both trees are in Task06_Lung's layout; what is in them and what comes out stands in benchmarks/README.md.
# Research only, not a medical device, not for clinical use.
set -euo pipefail

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
  echo "usage: bash $0 VOLUMES_TREE SLICES_TREE OUT [MINUTES]" >&2
  exit 2
fi
volumes=$1 slices=$2 out=$3 minutes=${4:-20}
for needed in "$volumes/imagesTr" "$volumes/labelsTr" "$slices/splits_final.json"; do
  [ -e "$needed" ] || { echo "$0: there is no $needed" >&2; exit 2; }
done

lungseg=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/lungseg
[ -x "$lungseg" ] || lungseg=lungseg

run() {
  printf '\n$ lungseg'
  printf ' %q' "$@"
  printf '\n'
  "$lungseg" "$@"
}

mkdir -p "$out"
run verify "$volumes" --json "$out/verify-volumes.json"
run verify "$slices" --json "$out/verify-slices.json"
run preprocess "$volumes" "$out/processed-volumes"
# The slices were counted from the 31st of each scan on: there is none left to skip.
run preprocess "$slices" "$out/processed-slices" --skip-slices 0 --slice-sets
resume=()
[ ! -e "$out/run/config.json" ] || resume=(--resume)
run train "$out/processed-slices" "$out/run" --splits "$slices/splits_final.json" --fold 0 --recipe demo \
  --max-minutes "$minutes" ${resume[@]+"${resume[@]}"}
run evaluate "$out/run"
# Whole scans: nothing below the lungs is looked at.
run predict "$out/run" "$volumes" "$out/predictions" --skip-slices auto
run score "$out/predictions" "$volumes/labelsTr" --json "$out/score.json" --csv "$out/score.csv"

mkdir -p "$out/animations"
for scan in "$volumes"/images*/*.nii.gz; do
  name=$(basename "$scan" .nii.gz)
  [[ $name != ._* ]] || continue
  truth=()
  label=$volumes/labelsTr/$name.nii.gz
  [ ! -e "$label" ] || truth=(--truth "$label")
  run animate "$scan" "$out/animations/$name.gif" --mask "$out/predictions/$name.nii.gz" ${truth[@]+"${truth[@]}"}
done
echo
echo "Everything is in $out: run/evaluation/summary.json, score.csv, predictions/, animations/"
