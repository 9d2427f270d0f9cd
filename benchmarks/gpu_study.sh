#!/usr/bin/env bash
# The accuracy study on a GPU, in pieces of at most some minutes; each goes on where it was stopped.
#   benchmarks/gpu_study.sh setup    WORK REAL             lay the slice sets out and preprocess them
#   benchmarks/gpu_study.sh ablation WORK SECONDS MINUTES [--rows NAME ...]  ingredients of `strong`, two folds
#   benchmarks/gpu_study.sh systems  WORK SECONDS MINUTES BASELINE TRAINER [--base JSON ...]
#                                    recipe and nnU-Net on two folds, strong and classic on all four, side by side
#   benchmarks/gpu_study.sh neighbours WORK SECONDS MINUTES TABLE  with and without them, on stacks that have them
#   benchmarks/gpu_study.sh results  WORK FOLDER           the records as .tgz and the probabilities as .tar
# REAL is a folder with build_task06.py and the slices; TABLE their slices.csv; BASELINE the published recipe's scripts;
# TRAINER the ending of one of nnU-Net's trainers, such as 5epochs.  Every job of ours trains for MINUTES, so that none is
# stopped before it is scored.  Many jobs side by side make each other slow, and the peers more so: give `systems` nine
# minutes or more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
piece=$1
work=$2
python=${PYTHON:-python3}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1

ablation() { "$python" "$here/ablation.py" "$work/slices" "$work/tree/splits_final.json" "$@"; }
peers() { # SECONDS SYSTEM and what it needs
  timeout -k 5 "$1" "$python" "$here/accuracy_peers.py" "$2" "$work/tree" "$work/systems" \
    --work "$work/peers" --folds 0 1 --jobs 2 "${@:3}"
}

case $piece in
  setup)
    mkdir -p "$work"
    test -e "$work/tree/splits_final.json" || "$python" "$3/build_task06.py" slices "$work/tree" > "$work/build.log"
    "$python" -c 'from lungseg.cli import main; main()' preprocess "$work/tree" "$work/slices" --skip-slices 0 --slice-sets
    ;;
  ablation)
    ablation "$work/ablation" --minutes "$4" --folds 0,1 --side-by-side 6 --threads 1 --device cuda --seconds "$3" "${@:5}"
    ;;
  neighbours)
    test -e "$work/stacks/manifest.json" || "$python" "$here/accuracy_neighbours.py" "$work/slices" "$5" "$work/stacks"
    "$python" "$here/ablation.py" "$work/stacks" "$work/tree/splits_final.json" "$work/neighbours" --minutes "$4" \
      --rows strong "with neighbours" --folds 0,1,2,3 --side-by-side 8 --threads 1 --device cuda --seconds "$3"
    ;;
  systems)
    # Counts of patients do not depend on what else runs; minutes do, and each record says how many ran side by side.
    peers "$3" recipe --baseline "$5" --workers 4 &
    peers "$3" nnunet --trainer "$6" --mirrored-only &
    ablation "$work/systems" --rows strong classic --minutes "$4" --folds 0,1,2,3 --side-by-side 4 --threads 1 \
      --device cuda --seconds "$3" "${@:7}" &
    wait
    ;;
  results)
    out=$(cd "$3" && pwd)
    cd "$work"
    find . \( -path './ablation/*/fold*.json' -o -path './neighbours/*/fold*.json' -o -path './systems/*/fold*.json' \
      -o -name settings.json -o -name metrics.csv -o -name log.txt -o -path './peers/*.log' \) -print0 | tar czf "$out/records.tgz" --null -T -
    mkdir -p ablation systems
    for fold in 0 1; do
      find ./ablation -path "*fold$fold*/levels.npz" -print0 | tar cf "$out/levels$fold.tar" --null -T -
    done
    find ./systems -name levels.npz -print0 2> /dev/null | tar cf "$out/levels_systems.tar" --null -T -
    ;;
  *)
    sed -n '2,12p' "$0"
    exit 2
    ;;
esac
