#!/bin/bash
# Eight slots of a node for the run `run`, which was started elsewhere in this folder: taskrun tasks.txt -S -p run
# Submit with: bsub < lsf.sh
#BSUB -n 8
#BSUB -R "span[hosts=1]"
exec taskrun attach run -s "localhost:$LSB_DJOB_NUMPROC"
