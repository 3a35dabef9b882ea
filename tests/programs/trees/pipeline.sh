# needs: awk sed sort uniq tr md5sum
set -o pipefail
seq 20000 | awk '{ print $1 % 97 }' | sort -n | uniq -c | sed 's/^ *//' | tr ' ' : | md5sum
yes | head -n 100000 | wc -l
echo "${PIPESTATUS[@]}"
false | true
echo $?
