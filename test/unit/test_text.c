/* SPDX-License-Identifier: PostgreSQL
 *
 * test_text.c
 *	  What is UTF-8, what a CloudEvents attribute may hold, and what is a URI reference.
 */
#include <string.h>

#include "unit.h"
#include "src/common/text.h"
#include "src/common/uri.h"
#include "src/common/utf8.h"

#define VALID(text)	   outbox_utf8_valid((text), sizeof(text) - 1)
#define EXCLUDED(text) outbox_utf8_excluded((text), sizeof(text) - 1)

static void
test_utf8(void)
{
	static const char *const wrong[] = {"\x80",
										"\xBF",
										"\xC0\x80",
										"\xC1\xBF",
										"\xC3",
										"\xC3(",
										"\xE0\x9F\xBF",
										"\xE2\x82",
										"\xED\xA0\x80",
										"\xED\xBF\xBF",
										"\xF0\x8F\xBF\xBF",
										"\xF4\x90\x80\x80",
										"\xF5\x80\x80\x80",
										"\xFF",
										"\xF0\x9F\x98",
										"gr\xFC\xDF"
										"e",
										"a\xE4"};

	CHECK(VALID("") && VALID("a\0b") && VALID("\x7F") && VALID("\xC2\x80") && VALID("\xDF\xBF") &&
			  VALID("\xE0\xA0\x80") && VALID("\xED\x9F\xBF") && VALID("\xEE\x80\x80") &&
			  VALID("\xF0\x90\x80\x80") && VALID("\xF4\x8F\xBF\xBF"),
		  "the shortest and the longest of each length");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(!outbox_utf8_valid(wrong[i], strlen(wrong[i])), "no UTF-8");
	CHECK(outbox_utf8_char("", 0) == 0 && outbox_utf8_char("\xE2\x82\xAC", 2) == 0 &&
			  outbox_utf8_char("\xE2\x82\xAC!", 4) == 3,
		  "one character, and none beyond the end");
}

static void
test_excluded(void)
{
	CHECK(EXCLUDED("") == -1 && EXCLUDED("Order placed \xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80") == -1,
		  "text of any language");
	CHECK(EXCLUDED("a\nb") == '\n' && EXCLUDED("\0") == 0 && EXCLUDED("x\x1F") == 0x1F &&
			  EXCLUDED("\x7F") == 0x7F,
		  "controls of ASCII");
	CHECK(EXCLUDED("a\xC2\x80") == 0x80 && EXCLUDED("\xC2\x9F") == 0x9F &&
			  EXCLUDED("\xC2\xA0") == -1,
		  "those of Latin-1");
	CHECK(EXCLUDED("\xEF\xB7\x90") == 0xFDD0 && EXCLUDED("\xEF\xBF\xBE") == 0xFFFE &&
			  EXCLUDED("\xEF\xBF\xBF") == 0xFFFF && EXCLUDED("\xF4\x8F\xBF\xBF") == 0x10FFFF &&
			  EXCLUDED("\xEF\xBF\xBD") == -1,
		  "noncharacters");
}

static void
test_uri(void)
{
	static const char *const references[] = {"/outbox/shop",
											 "/outbox/gr%C3%BC%C3%9Fe",
											 "https://shop.example:8443/a;b=c?d=e/?#f/?",
											 "urn:uuid:0189d3f5-7a7c-7b1e-8a3e-0123456789ab",
											 "mailto:shop@example.com",
											 "//host/x",
											 "//user:pw@[::1]:80/x",
											 "#f",
											 "?q",
											 "shop",
											 "1-555-123-4567",
											 "../a:b",
											 "a/b:c",
											 "x+y.z-1:",
											 "/~user/!$&'()*+,;=:@",
											 "//",
											 "file:///x",
											 "/a//b"};
	static const char *const others[] = {"",		 "my shop", "/a b",	   "/\xC3\xA4", "/a%",
										 "/a%4",	 "/a%4g",	"a\"b",	   "<a>",		"a\\b",
										 "a^b",		 "a`b",		"a{b}",	   "a|b",		"1a:b",
										 ":a",		 "a_b:c",	"/a[b]",   "//[::1",	"//[]",
										 "//[::1]x", "//h:p",	"//a@b@c", "#a#b",		"/a\n",
										 "/a\x7F",	 "//h[1]"};
	char					 leaf[64];

	for (size_t i = 0; i < sizeof(references) / sizeof(references[0]); i++)
		CHECK(outbox_uri_is_reference(references[i]), references[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK(!outbox_uri_is_reference(others[i]), "no URI reference");
	CHECK(strcmp(outbox_uri_segment(leaf, "shop_order-1.x~", 15), "shop_order-1.x~") == 0,
		  "a usual name stays");
	CHECK(strcmp(outbox_uri_segment(leaf, "a b/c?d#e%\xC3\xA4\"\n", 14),
				 "a%20b%2Fc%3Fd%23e%25%C3%A4%22%0A") == 0,
		  "all else is encoded");
	CHECK(strcmp(outbox_uri_segment(leaf, "", 0), "") == 0, "nothing stays nothing");
}

static void
test_fit(void)
{
	static const char long_text[] =
		"\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4"
		"\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4";
	char fitting[64];

	for (size_t size = 1; size <= sizeof(long_text); size++)
	{
		outbox_text_fit(fitting, size, long_text);
		CHECK(strlen(fitting) < size && outbox_utf8_valid(fitting, strlen(fitting)),
			  "cut between characters");
	}
}

int
main(void)
{
	test_utf8();
	test_excluded();
	test_uri();
	test_fit();
	return finish_tests();
}
