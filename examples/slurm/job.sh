#!/bin/bash
# A job that carries on by itself: at its time limit, after a preemption, after the loss of its first node. Submit with: sbatch job.sh
#SBATCH --ntasks=4
#SBATCH --time=10
#SBATCH --requeue               # SLURM may start the job again
#SBATCH --no-kill               # a lost node does not end the job: its tasks run on the others
#SBATCH --signal=B:USR1@60      # a minute or more before the end, or before a preemption, taskrun asks SLURM again when that is
#SBATCH --open-mode=append
exec taskrun primes.txt --requeue
