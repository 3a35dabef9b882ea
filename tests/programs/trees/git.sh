# needs: git
# Hooks, merges with conflicts, gc, fsck, a clone by processes that talk to each other.
export GIT_AUTHOR_DATE='1000000000 +0000' GIT_COMMITTER_DATE='1000000000 +0000' GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
g() { git -c user.name=a -c user.email=b -c init.defaultBranch=main -c gc.auto=0 "$@"; }
g init -q .
printf '#!/bin/sh\necho hook\n' > .git/hooks/pre-commit
chmod +x .git/hooks/pre-commit
for i in 1 2 3; do echo $i > f$i; g add .; g commit -m "commit $i"; done
g checkout -q -b side HEAD~1
echo other > f3
g add f3
g commit -qm side
g merge main
echo $?
g merge --abort
g gc -q
g fsck --full
g count-objects -v | head -n 2
g log --all --format='%H %s'
g clone -q "file://$PWD" copy && ls copy
