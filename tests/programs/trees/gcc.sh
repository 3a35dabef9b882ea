# needs: gcc ar
cat > a.c <<< 'int a(void) { return 40; }'
cat > b.c <<< 'int b(void) { return 2; }'
cat > broken.c <<< 'int main(void) { return 0 }'
cat > main.c << END
#include <stdio.h>
int a(void), b(void);
int main(int count, char **words) { printf("%d %s\n", a() + b(), words[0]); return count; }
END
gcc -O2 -Wall -pipe -c a.c b.c && ar rc libab.a a.o b.o && gcc -flto -o one main.c -L. -lab && ./one x
echo $?
gcc -fPIC -shared -o libab.so a.c b.c && gcc -o two main.c ./libab.so && ./two
echo $?
gcc -c broken.c
echo $?
