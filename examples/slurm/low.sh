#!/bin/bash
# A job that others may push aside: when that happens its tasks are given back, and it carries on when there is room again.
# Submit with: sbatch low.sh
#SBATCH --partition=low
#SBATCH --ntasks=4
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
exec taskrun primes.txt
