# needs: perl
perl -e 'print join(",", map { $_ ** 2 } 1 .. 5), "\n"; open(F, "-|", "echo a"); print <F>; exit 9'
