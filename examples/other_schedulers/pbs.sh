#!/bin/bash
# Eight slots of a node for the run `run`, which was started elsewhere in this folder: taskrun tasks.txt -S -p run
# Submit with: qsub pbs.sh
#PBS -l select=1:ncpus=8:mpiprocs=8
cd "$PBS_O_WORKDIR" || exit
exec taskrun attach run -s "localhost:$(wc -l < "$PBS_NODEFILE")"
