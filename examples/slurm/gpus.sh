#!/bin/bash
# Each slot has a GPU of its own: CUDA_VISIBLE_DEVICES names one. Submit with: sbatch gpus.sh
#SBATCH --ntasks=4
#SBATCH --gpus-per-task=1
exec taskrun primes.txt
