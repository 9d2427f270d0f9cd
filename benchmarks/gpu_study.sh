#!/usr/bin/env bash
# The accuracy study on a GPU, in pieces of at most some minutes; each goes on where it was stopped.
#   benchmarks/gpu_study.sh setup    WORK REAL             lay the slice sets out and preprocess them
#   benchmarks/gpu_study.sh ablation WORK SECONDS EPOCHS [--rows NAME ...]  every ingredient of `strong`, two folds
#   benchmarks/gpu_study.sh systems  WORK SECONDS EPOCHS BASELINE [SEEDS]   recipe, classic and strong side by side
#   benchmarks/gpu_study.sh nnunet   WORK SECONDS TRAINER  nnU-Net v2 2d, two folds side by side
#   benchmarks/gpu_study.sh results  WORK FILE.tgz         all records, and the probabilities of strong
# REAL is a folder with build_task06.py and the slices; BASELINE the published recipe's scripts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
piece=$1
work=$2
python=${PYTHON:-python3}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1

ablation() { "$python" "$here/ablation.py" "$work/slices" "$work/tree/splits_final.json" "$@"; }

case $piece in
  setup)
    mkdir -p "$work"
    test -e "$work/tree/splits_final.json" || "$python" "$3/build_task06.py" slices "$work/tree" > "$work/build.log"
    "$python" -c 'from lungseg.cli import main; main()' preprocess "$work/tree" "$work/slices" --skip-slices 0 --slice-sets
    ;;
  ablation)
    ablation "$work/ablation" --epochs "$4" --folds 0,1 --side-by-side 14 --threads 1 --device cuda --seconds "$3" "${@:5}"
    ;;
  systems)
    # Counts of patients do not depend on what else runs; minutes do, and each record says how many ran side by side.
    seeds=${6:-0}
    timeout -k 5 "$3" bash -c '"$@"' - "$python" "$here/accuracy_peers.py" recipe "$work/tree" "$work/systems" \
      --work "$work/peers" --baseline "$5" --folds 0 1 --jobs 2 --workers 5 &
    ablation "$work/systems" --rows classic --folds 0,1 --seeds "$seeds" --side-by-side 2 --threads 1 --device cuda --seconds "$3" &
    ablation "$work/systems" --rows strong --epochs "$4" --folds 0,1,2,3 --seeds "$seeds" --side-by-side 4 --threads 1 \
      --device cuda --seconds "$3" &
    wait
    ;;
  nnunet)
    timeout -k 5 "$3" bash -c '"$@"' - "$python" "$here/accuracy_peers.py" nnunet "$work/tree" "$work/systems" \
      --work "$work/peers" --trainer "$4" --mirrored-only --folds 0 1 --jobs 2
    ;;
  results)
    cd "$work"
    find . \( -path './ablation/*/fold*.json' -o -path './systems/*/fold*.json' -o -name thresholds.json \
      -o -name metrics.csv -o -path './systems/runs/strong/*/levels.npz' -o -name log.txt \) -print0 | tar czf "$3" --null -T -
    ;;
  *)
    sed -n '2,8p' "$0"
    exit 2
    ;;
esac
