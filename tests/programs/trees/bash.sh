# Arrays, coprocesses, process substitution, traps, signals to itself, here strings, globs, descriptors.
declare -A numbers=([a]=1 [b]=2)
for key in a b; do echo $key ${numbers[$key]}; done
coproc cat
echo through >&"${COPROC[1]}"
read -r line <&"${COPROC[0]}"
echo "$line"
diff <(seq 3) <(seq 2 4)
echo $?
squares() { local i; for i in 1 2 3; do echo $((i * i)); done; }
squares | tac
trap 'echo bye' EXIT
trap 'echo usr1' USR1
kill -USR1 $$
(kill -TERM "$BASHPID")
echo $?
cat <<< here
printf '%s\n' ./* {a..c} ~ | wc -l
exec 5>out
echo five >&5
cat out
[[ -e out && ! -e none ]] && exit 3
