#include <sys/feature_tests.h>

#undef	assert
#ifdef NDEBUG
#define	assert(EX)	((void)0)
#else
extern void __assert_c99(const char *, const char *, int, const char *);
#define	assert(EX)	(void)((EX) || (__assert_c99(#EX, __FILE__, __LINE__, __func__), 0))
#endif
