# needs: make gcc
cat > Makefile << 'END'
N = $(shell seq 12)
all: $(N:=.o) main.o
	@$(CC) -o $@ $^
%.c:
	@echo 'int f$*(void) { return $*; }' > $@
wrong:
	@exit 4
.PRECIOUS: %.c
END
cat > main.c << 'END'
#include <stdio.h>
int f12(void);
int main(void) { printf("%d\n", f12()); return 0; }
END
make -s -j8 && ./all
make -q
echo $?
touch 3.c
make -n -j2 | wc -l
make -j4 wrong
echo $?
