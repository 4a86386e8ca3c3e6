# Completion of taskrun for bash; made by `taskrun completion bash`.
_taskrun() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  COMPREPLY=()
  case $before in
    --grace) return ;;
    --leftovers) COMPREPLY=($(compgen -W "keep end fail" -- "$word")); return ;;
    -s|--ssh-node) COMPREPLY=($(compgen -A hostname -S : -- "$word")); compopt -o nospace; return ;;
    -c|--cpusPerTask) return ;;
    -t|--tasksPerNode) return ;;
    -C|--context-task-limit) return ;;
    -l|--label) return ;;
    --ssh) return ;;
    --workdir) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --env) return ;;
    --task-time) return ;;
    --retire-cmd) return ;;
    --restarts) return ;;
    -E|--env-resource) return ;;
    --starter) COMPREPLY=($(compgen -W "auto parallel builtin" -- "$word")); return ;;
    --lost-after) return ;;
    --sick-after) return ;;
    --wait-for-engines) return ;;
    --transfers) return ;;
    --bwlimit) return ;;
    --transfer-tries) return ;;
    --settle) return ;;
    --writers-wait) return ;;
    --workfactor) return ;;
    --rclone-config) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --passphrase-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --clean) COMPREPLY=($(compgen -W "keep output encrypted all" -- "$word")); return ;;
    -r|--resume-from) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --match) COMPREPLY=($(compgen -W "id command" -- "$word")); return ;;
    -p|--prefix) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --file-mode) return ;;
    --logfile) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --loglevel) COMPREPLY=($(compgen -W "CRITICAL ERROR WARNING INFO DEBUG" -- "$word")); return ;;
    --use-address|--listen) return ;;
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "-e --exit-code -f --fail-fast --grace --stopped-ok --leftovers --ignore-unknown --strict --dry-run -q --quiet -s --ssh-node -c --cpusPerTask -t --tasksPerNode -C --context-task-limit -l --label --ssh --workdir --env --require-all --fill --task-time --retire-cmd --requeue --restarts --each-element --no-comment --no-retire -g --gpu -E --env-resource --starter --lost-after --sick-after --wait-for-engines --transfers --bwlimit --transfer-tries --settle --writers-wait --no-replace --workfactor --rclone-config --passphrase-file --checksum-file --clean --stage-on-engine -r --resume-from -R --retry --match --force-resume --append --trust-records --as-is --take-over -p --prefix --file-mode --status-header --logfile --loglevel -S --startup-only --use-address --listen --help --version" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
    [ "$COMP_CWORD" -gt 1 ] || COMPREPLY+=($(compgen -W "attach check completion detach hosts monitor run submit" -- "$word"))
  fi
}
complete -o filenames -F _taskrun taskrun
