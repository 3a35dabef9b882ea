/* SPDX-License-Identifier: Apache-2.0 */
/* The manual's structures, leaf numbers, flags and error codes.
 * Written by tools/gen_headers.py from the Python tables; do not edit, edit those. */
#ifndef SWSGX_ISA_H
#define SWSGX_ISA_H

/* constants of swsgx.isa */
#define SGX_PAGE_SIZE                    0x1000
#define DEFAULT_EPC_BASE                 0x70200000
#define DEFAULT_EPC_SIZE                 0x8000000
#define SGX_LEAF                         18
#define MISC_RESERVED                    0xfffffffc
#define PERM_MASK                        7
#define SECINFO_PT_SHIFT                 8
#define SECINFO_RESERVED                 0xffffffffffff00c0
#define RSA_BYTES                        384
#define RSA_EXPONENT                     3
#define EXITINFO_TYPE_SHIFT              8
#define EXITINFO_VALID                   0x80000000
#define XSAVE_LEGACY_SIZE                576

/* Error codes of ENCLS and ENCLU leaves. Source: SDM, "Error Codes"; 0 is success and no member. */
#define SGX_ERR_INVALID_SIG_STRUCT       1
#define SGX_ERR_INVALID_ATTRIBUTE        2
#define SGX_ERR_BLKSTATE                 3
#define SGX_ERR_INVALID_MEASUREMENT      4
#define SGX_ERR_NOTBLOCKABLE             5
#define SGX_ERR_PG_INVLD                 6
#define SGX_ERR_EPC_PAGE_CONFLICT        7
#define SGX_ERR_INVALID_SIGNATURE        8
#define SGX_ERR_MAC_COMPARE_FAIL         9
#define SGX_ERR_PAGE_NOT_BLOCKED         10
#define SGX_ERR_NOT_TRACKED              11
#define SGX_ERR_VA_SLOT_OCCUPIED         12
#define SGX_ERR_CHILD_PRESENT            13
#define SGX_ERR_ENCLAVE_ACT              14
#define SGX_ERR_ENTRYEPOCH_LOCKED        15
#define SGX_ERR_INVALID_EINITTOKEN       16
#define SGX_ERR_PREV_TRK_INCMPL          17
#define SGX_ERR_PG_IS_SECS               18
#define SGX_ERR_PAGE_ATTRIBUTES_MISMATCH 19
#define SGX_ERR_PAGE_NOT_MODIFIABLE      20
#define SGX_ERR_PAGE_NOT_DEBUGGABLE      21
#define SGX_ERR_PG_NONEPC                26
#define SGX_ERR_TRACK_NOT_REQUIRED       27
#define SGX_ERR_INVALID_REPORTMACSTRUCT  28
#define SGX_ERR_INVALID_CPUSVN           32
#define SGX_ERR_INVALID_ISVSVN           64
#define SGX_ERR_UNMASKED_EVENT           128
#define SGX_ERR_INVALID_KEYNAME          256

/* SECS.ATTRIBUTES, low 8 bytes. Source: SDM, "ATTRIBUTES". */
#define ATTR_INIT                        1
#define ATTR_DEBUG                       2
#define ATTR_MODE64BIT                   4
#define ATTR_PROVISIONKEY                16
#define ATTR_EINITTOKEN_KEY              32
#define ATTR_CET                         64
#define ATTR_KSS                         128
#define ATTR_AEXNOTIFY                   1024

/* KEYREQUEST.KEYNAME. Source: SDM, "KEYREQUEST KeyName". */
#define KEYNAME_EINITTOKEN               0
#define KEYNAME_PROVISION                1
#define KEYNAME_PROVISION_SEAL           2
#define KEYNAME_REPORT                   3
#define KEYNAME_SEAL                     4

/* KEYREQUEST.KEYPOLICY; 15:6 must be zero, 2 to 5 need KSS. Source: SDM, "KEYREQUEST Policy". */
#define KEYPOLICY_MRENCLAVE              1
#define KEYPOLICY_MRSIGNER               2
#define KEYPOLICY_NOISVPRODID            4
#define KEYPOLICY_CONFIGID               8
#define KEYPOLICY_ISVFAMILYID            16
#define KEYPOLICY_ISVEXTPRODID           32

/* SECS.MISCSELECT: what an AEX saves besides registers. Source: SDM, "MISCSELECT". */
#define MISC_EXINFO                      1
#define MISC_CPINFO                      2

/* The page-fault error code. Source: SDM volume 3A, "Page-Fault Exceptions". */
#define PFEC_P                           1
#define PFEC_W                           2
#define PFEC_U                           4
#define PFEC_RSVD                        8
#define PFEC_I                           16
#define PFEC_PK                          32
#define PFEC_SGX                         0x8000

/* EPCM.PT and SECINFO.FLAGS.PAGE_TYPE. Source: SDM, "PAGE_TYPE". */
#define PT_SECS                          0
#define PT_TCS                           1
#define PT_REG                           2
#define PT_VA                            3
#define PT_TRIM                          4
#define PT_SS_FIRST                      5
#define PT_SS_REST                       6

/* SECINFO.FLAGS without the page type. Source: SDM, "SECINFO.FLAGS". */
#define SECINFO_R                        1
#define SECINFO_W                        2
#define SECINFO_X                        4
#define SECINFO_PENDING                  8
#define SECINFO_MODIFIED                 16
#define SECINFO_PR                       32

/* TCS.FLAGS. Source: SDM, "Thread Control Structure (TCS)". */
#define TCS_FLAG_DBGOPTIN                1
#define TCS_FLAG_AEXNOTIFY               2

/* Extended features, numbered as in XCR0. Source: SDM, "ATTRIBUTES" (its bits 127:64). */
#define XFRM_X87                         1
#define XFRM_SSE                         2
#define XFRM_AVX                         4
#define XFRM_BNDREGS                     8
#define XFRM_BNDCSR                      16
#define XFRM_OPMASK                      32
#define XFRM_ZMM_HI256                   64
#define XFRM_HI16_ZMM                    128
#define XFRM_PKRU                        512
#define XFRM_XTILECFG                    0x20000
#define XFRM_XTILEDATA                   0x40000

/* ENCLS leaves by EAX. Source: SDM, "Supervisor and User Mode Enclave Instruction Leaf Functions". */
#define ENCLS_ECREATE                    0
#define ENCLS_EADD                       1
#define ENCLS_EINIT                      2
#define ENCLS_EREMOVE                    3
#define ENCLS_EDBGRD                     4
#define ENCLS_EDBGWR                     5
#define ENCLS_EEXTEND                    6
#define ENCLS_ELDB                       7
#define ENCLS_ELDU                       8
#define ENCLS_EBLOCK                     9
#define ENCLS_EPA                        10
#define ENCLS_EWB                        11
#define ENCLS_ETRACK                     12
#define ENCLS_EAUG                       13
#define ENCLS_EMODPR                     14
#define ENCLS_EMODT                      15
#define ENCLS_ERDINFO                    16
#define ENCLS_ETRACKC                    17
#define ENCLS_ELDBC                      18
#define ENCLS_ELDUC                      19
#define ENCLS_EUPDATESVN                 24

/* ENCLU leaves by EAX. Source: SDM, "Supervisor and User Mode Enclave Instruction Leaf Functions". */
#define ENCLU_EREPORT                    0
#define ENCLU_EGETKEY                    1
#define ENCLU_EENTER                     2
#define ENCLU_ERESUME                    3
#define ENCLU_EEXIT                      4
#define ENCLU_EACCEPT                    5
#define ENCLU_EMODPE                     6
#define ENCLU_EACCEPTCOPY                7
#define ENCLU_EVERIFYREPORT2             8
#define ENCLU_EDECCSSA                   9

/* IA32_FEATURE_CONTROL. SGX is usable with LOCK and SGX_ENABLE; CPUID does not show SGX_ENABLE. */
#define FEATURE_CONTROL_LOCK             1
#define FEATURE_CONTROL_SGX_LC           0x20000
#define FEATURE_CONTROL_SGX_ENABLE       0x40000

/* Register numbers. */
#define MSR_FEATURE_CONTROL              58
#define MSR_SGXLEPUBKEYHASH0             140
#define MSR_SGXLEPUBKEYHASH1             141
#define MSR_SGXLEPUBKEYHASH2             142
#define MSR_SGXLEPUBKEYHASH3             143
#define MSR_SGXOWNEREPOCH0               768
#define MSR_SGXOWNEREPOCH1               769
#define MSR_SGX_SVN_STATUS               1280

/* struct sgx_keyrequest: Intel SDM volume 3D, order number 332831, December 2023, 'KEY REQUEST (KEYREQUEST)' */
#define SIZEOF_KEYREQUEST                512
#define KEYREQUEST_KEYNAME               0
#define KEYREQUEST_KEYPOLICY             2
#define KEYREQUEST_ISVSVN                4
#define KEYREQUEST_CPUSVN                8
#define KEYREQUEST_ATTRIBUTEMASK         24
#define KEYREQUEST_XFRMMASK              32
#define KEYREQUEST_KEYID                 40
#define KEYREQUEST_MISCMASK              72
#define KEYREQUEST_CONFIGSVN             76

/* struct sgx_report: Intel SDM volume 3D, order number 332831, December 2023, 'REPORT (REPORT)' */
#define SIZEOF_REPORT                    432
#define REPORT_CPUSVN                    0
#define REPORT_MISCSELECT                16
#define REPORT_ISVEXTPRODID              32
#define REPORT_ATTRIBUTES                48
#define REPORT_XFRM                      56
#define REPORT_MRENCLAVE                 64
#define REPORT_MRSIGNER                  128
#define REPORT_CONFIGID                  192
#define REPORT_ISVPRODID                 256
#define REPORT_ISVSVN                    258
#define REPORT_CONFIGSVN                 260
#define REPORT_ISVFAMILYID               304
#define REPORT_REPORTDATA                320
#define REPORT_KEYID                     384
#define REPORT_MAC                       416

/* struct sgx_targetinfo: Intel SDM volume 3D, order number 332831, December 2023, 'REPORT TARGET INFO (TARGETINFO)' */
#define SIZEOF_TARGETINFO                512
#define TARGETINFO_MEASUREMENT           0
#define TARGETINFO_ATTRIBUTES            32
#define TARGETINFO_XFRM                  40
#define TARGETINFO_CONFIGSVN             50
#define TARGETINFO_MISCSELECT            52
#define TARGETINFO_CONFIGID              64

/* struct sgx_einittoken: Intel SDM volume 3D, order number 332831, December 2023, 'EINIT Token Structure (EINITTOKEN)' */
#define SIZEOF_EINITTOKEN                304
#define EINITTOKEN_VALID                 0
#define EINITTOKEN_ATTRIBUTES            48
#define EINITTOKEN_XFRM                  56
#define EINITTOKEN_MRENCLAVE             64
#define EINITTOKEN_MRSIGNER              128
#define EINITTOKEN_CPUSVNLE              192
#define EINITTOKEN_ISVPRODIDLE           208
#define EINITTOKEN_ISVSVNLE              210
#define EINITTOKEN_MASKEDMISCSELECTLE    236
#define EINITTOKEN_MASKEDATTRIBUTESLE    240
#define EINITTOKEN_MASKEDXFRMLE          248
#define EINITTOKEN_KEYID                 256
#define EINITTOKEN_MAC                   288

/* struct sgx_sigstruct: Intel SDM volume 3D, order number 332831, December 2023, 'Enclave Signature Structure (SIGSTRUCT)' */
#define SIZEOF_SIGSTRUCT                 1808
#define SIGSTRUCT_HEADER                 0
#define SIGSTRUCT_VENDOR                 16
#define SIGSTRUCT_DATE                   20
#define SIGSTRUCT_HEADER2                24
#define SIGSTRUCT_SWDEFINED              40
#define SIGSTRUCT_MODULUS                128
#define SIGSTRUCT_EXPONENT               512
#define SIGSTRUCT_SIGNATURE              516
#define SIGSTRUCT_MISCSELECT             900
#define SIGSTRUCT_MISCMASK               904
#define SIGSTRUCT_ISVFAMILYID            912
#define SIGSTRUCT_ATTRIBUTES             928
#define SIGSTRUCT_XFRM                   936
#define SIGSTRUCT_ATTRIBUTEMASK          944
#define SIGSTRUCT_XFRMMASK               952
#define SIGSTRUCT_ENCLAVEHASH            960
#define SIGSTRUCT_ISVEXTPRODID           1008
#define SIGSTRUCT_ISVPRODID              1024
#define SIGSTRUCT_ISVSVN                 1026
#define SIGSTRUCT_Q1                     1040
#define SIGSTRUCT_Q2                     1424

/* struct sgx_exinfo: Intel SDM volume 3D, order number 332831, December 2023, 'EXINFO Structure' */
#define SIZEOF_EXINFO                    16
#define EXINFO_MADDR                     0
#define EXINFO_ERRCD                     8

/* EXITINFO.EXIT_TYPE. */
#define EXIT_TYPE_NONE                   0
#define EXIT_TYPE_HARDWARE               3
#define EXIT_TYPE_SOFTWARE               6

/* struct sgx_gprsgx: Intel SDM volume 3D, order number 332831, December 2023, 'GPRSGX Region' */
#define SIZEOF_GPRSGX                    184
#define GPRSGX_RAX                       0
#define GPRSGX_RCX                       8
#define GPRSGX_RDX                       16
#define GPRSGX_RBX                       24
#define GPRSGX_RSP                       32
#define GPRSGX_RBP                       40
#define GPRSGX_RSI                       48
#define GPRSGX_RDI                       56
#define GPRSGX_R8                        64
#define GPRSGX_R9                        72
#define GPRSGX_R10                       80
#define GPRSGX_R11                       88
#define GPRSGX_R12                       96
#define GPRSGX_R13                       104
#define GPRSGX_R14                       112
#define GPRSGX_R15                       120
#define GPRSGX_RFLAGS                    128
#define GPRSGX_RIP                       136
#define GPRSGX_URSP                      144
#define GPRSGX_URBP                      152
#define GPRSGX_EXITINFO                  160
#define GPRSGX_AEXNOTIFY                 167
#define GPRSGX_FSBASE                    168
#define GPRSGX_GSBASE                    176

/* struct sgx_pageinfo: Intel SDM volume 3D, order number 332831, December 2023, 'Page Information (PAGEINFO)' */
#define SIZEOF_PAGEINFO                  32
#define PAGEINFO_LINADDR                 0
#define PAGEINFO_SRCPGE                  8
#define PAGEINFO_SECINFO                 16
#define PAGEINFO_SECS                    24

/* struct sgx_pcmd: Intel SDM volume 3D, order number 332831, December 2023, 'Paging Crypto MetaData (PCMD)' */
#define SIZEOF_PCMD                      128
#define PCMD_SECINFO                     0
#define PCMD_ENCLAVEID                   64
#define PCMD_MAC                         112

/* struct sgx_secinfo: Intel SDM volume 3D, order number 332831, December 2023, 'SGX Security Information (SECINFO)' */
#define SIZEOF_SECINFO                   64
#define SECINFO_FLAGS                    0

/* struct sgx_secs: Intel SDM volume 3D, order number 332831, December 2023, 'SGX Enclave Control Structure (SECS)' */
#define SIZEOF_SECS                      0x1000
#define SECS_SIZE                        0
#define SECS_BASEADDR                    8
#define SECS_SSAFRAMESIZE                16
#define SECS_MISCSELECT                  20
#define SECS_ATTRIBUTES                  48
#define SECS_XFRM                        56
#define SECS_MRENCLAVE                   64
#define SECS_MRSIGNER                    128
#define SECS_CONFIGID                    192
#define SECS_ISVPRODID                   256
#define SECS_ISVSVN                      258
#define SECS_CONFIGSVN                   260

/* struct sgx_tcs: Intel SDM volume 3D, order number 332831, December 2023, 'Thread Control Structure (TCS)' */
#define SIZEOF_TCS                       0x1000
#define TCS_STATE                        0
#define TCS_FLAGS                        8
#define TCS_OSSA                         16
#define TCS_CSSA                         24
#define TCS_NSSA                         28
#define TCS_OENTRY                       32
#define TCS_AEP                          40
#define TCS_OFSBASE                      48
#define TCS_OGSBASE                      56
#define TCS_FSLIMIT                      64
#define TCS_GSLIMIT                      68

/* Exceptions and NMI by number. Source: SDM volume 3A, "Exception and Interrupt Vectors". */
#define VECTOR_DE                        0
#define VECTOR_DB                        1
#define VECTOR_NMI                       2
#define VECTOR_BP                        3
#define VECTOR_OF                        4
#define VECTOR_BR                        5
#define VECTOR_UD                        6
#define VECTOR_NM                        7
#define VECTOR_DF                        8
#define VECTOR_TS                        10
#define VECTOR_NP                        11
#define VECTOR_SS                        12
#define VECTOR_GP                        13
#define VECTOR_PF                        14
#define VECTOR_MF                        16
#define VECTOR_AC                        17
#define VECTOR_MC                        18
#define VECTOR_XM                        19
#define VECTOR_VE                        20
#define VECTOR_CP                        21

#ifndef __ASSEMBLER__

#include <stddef.h>
#include <stdint.h>

/* Which key EGETKEY shall derive, and from what. */
struct sgx_keyrequest {
	uint16_t keyname; /* KeyName */
	uint16_t keypolicy; /* KeyPolicy bits; 15:6 must be zero */
	uint16_t isvsvn; /* at most the enclave's own */
	uint8_t cet_attributes_mask[1];
	uint8_t reserved_7[1];
	uint8_t cpusvn[16]; /* not beyond the current one */
	uint64_t attributemask; /* bits of ATTRIBUTES that enter the key, besides INIT and DEBUG */
	uint64_t xfrmmask; /* bits of XFRM that enter the key */
	uint8_t keyid[32]; /* wear-out protection; REPORT: out of the report */
	uint32_t miscmask; /* bits of MISCSELECT that enter the key */
	uint16_t configsvn; /* at most the enclave's own */
	uint8_t reserved_78[434];
} __attribute__((packed, aligned(512)));
_Static_assert(sizeof(struct sgx_keyrequest) == 512, "size of sgx_keyrequest");
_Static_assert(offsetof(struct sgx_keyrequest, keyname) == 0, "sgx_keyrequest.keyname");
_Static_assert(offsetof(struct sgx_keyrequest, keypolicy) == 2, "sgx_keyrequest.keypolicy");
_Static_assert(offsetof(struct sgx_keyrequest, isvsvn) == 4, "sgx_keyrequest.isvsvn");
_Static_assert(offsetof(struct sgx_keyrequest, cet_attributes_mask) == 6, "sgx_keyrequest.cet_attributes_mask");
_Static_assert(offsetof(struct sgx_keyrequest, reserved_7) == 7, "sgx_keyrequest.reserved_7");
_Static_assert(offsetof(struct sgx_keyrequest, cpusvn) == 8, "sgx_keyrequest.cpusvn");
_Static_assert(offsetof(struct sgx_keyrequest, attributemask) == 24, "sgx_keyrequest.attributemask");
_Static_assert(offsetof(struct sgx_keyrequest, xfrmmask) == 32, "sgx_keyrequest.xfrmmask");
_Static_assert(offsetof(struct sgx_keyrequest, keyid) == 40, "sgx_keyrequest.keyid");
_Static_assert(offsetof(struct sgx_keyrequest, miscmask) == 72, "sgx_keyrequest.miscmask");
_Static_assert(offsetof(struct sgx_keyrequest, configsvn) == 76, "sgx_keyrequest.configsvn");
_Static_assert(offsetof(struct sgx_keyrequest, reserved_78) == 78, "sgx_keyrequest.reserved_78");

/* What EREPORT says of an enclave to another one on the same CPU. */
struct sgx_report {
	uint8_t cpusvn[16]; /* security version of the CPU; opaque, not an integer */
	uint32_t miscselect;
	uint8_t cet_attributes[1];
	uint8_t reserved_21[11];
	uint8_t isvextprodid[16];
	uint64_t attributes; /* Attributes bits */
	uint64_t xfrm; /* Xfrm bits */
	uint8_t mrenclave[32];
	uint8_t reserved_96[32];
	uint8_t mrsigner[32];
	uint8_t reserved_160[32];
	uint8_t configid[64];
	uint16_t isvprodid;
	uint16_t isvsvn;
	uint16_t configsvn;
	uint8_t reserved_262[42];
	uint8_t isvfamilyid[16];
	uint8_t reportdata[64]; /* what the enclave wanted said */
	uint8_t keyid[32]; /* KEYID of the report key; not under the MAC */
	uint8_t mac[16]; /* AES-CMAC under the target's report key over bytes 0 to 383 */
} __attribute__((packed));
_Static_assert(sizeof(struct sgx_report) == 432, "size of sgx_report");
_Static_assert(offsetof(struct sgx_report, cpusvn) == 0, "sgx_report.cpusvn");
_Static_assert(offsetof(struct sgx_report, miscselect) == 16, "sgx_report.miscselect");
_Static_assert(offsetof(struct sgx_report, cet_attributes) == 20, "sgx_report.cet_attributes");
_Static_assert(offsetof(struct sgx_report, reserved_21) == 21, "sgx_report.reserved_21");
_Static_assert(offsetof(struct sgx_report, isvextprodid) == 32, "sgx_report.isvextprodid");
_Static_assert(offsetof(struct sgx_report, attributes) == 48, "sgx_report.attributes");
_Static_assert(offsetof(struct sgx_report, xfrm) == 56, "sgx_report.xfrm");
_Static_assert(offsetof(struct sgx_report, mrenclave) == 64, "sgx_report.mrenclave");
_Static_assert(offsetof(struct sgx_report, reserved_96) == 96, "sgx_report.reserved_96");
_Static_assert(offsetof(struct sgx_report, mrsigner) == 128, "sgx_report.mrsigner");
_Static_assert(offsetof(struct sgx_report, reserved_160) == 160, "sgx_report.reserved_160");
_Static_assert(offsetof(struct sgx_report, configid) == 192, "sgx_report.configid");
_Static_assert(offsetof(struct sgx_report, isvprodid) == 256, "sgx_report.isvprodid");
_Static_assert(offsetof(struct sgx_report, isvsvn) == 258, "sgx_report.isvsvn");
_Static_assert(offsetof(struct sgx_report, configsvn) == 260, "sgx_report.configsvn");
_Static_assert(offsetof(struct sgx_report, reserved_262) == 262, "sgx_report.reserved_262");
_Static_assert(offsetof(struct sgx_report, isvfamilyid) == 304, "sgx_report.isvfamilyid");
_Static_assert(offsetof(struct sgx_report, reportdata) == 320, "sgx_report.reportdata");
_Static_assert(offsetof(struct sgx_report, keyid) == 384, "sgx_report.keyid");
_Static_assert(offsetof(struct sgx_report, mac) == 416, "sgx_report.mac");

/* For which enclave a report is meant; all zero is legal. */
struct sgx_targetinfo {
	uint8_t measurement[32]; /* MRENCLAVE of the target */
	uint64_t attributes; /* Attributes bits of the target, INIT set */
	uint64_t xfrm; /* Xfrm bits of the target */
	uint8_t cet_attributes[1];
	uint8_t reserved_49[1];
	uint16_t configsvn;
	uint32_t miscselect;
	uint8_t reserved_56[8];
	uint8_t configid[64];
	uint8_t reserved_128[384];
} __attribute__((packed, aligned(512)));
_Static_assert(sizeof(struct sgx_targetinfo) == 512, "size of sgx_targetinfo");
_Static_assert(offsetof(struct sgx_targetinfo, measurement) == 0, "sgx_targetinfo.measurement");
_Static_assert(offsetof(struct sgx_targetinfo, attributes) == 32, "sgx_targetinfo.attributes");
_Static_assert(offsetof(struct sgx_targetinfo, xfrm) == 40, "sgx_targetinfo.xfrm");
_Static_assert(offsetof(struct sgx_targetinfo, cet_attributes) == 48, "sgx_targetinfo.cet_attributes");
_Static_assert(offsetof(struct sgx_targetinfo, reserved_49) == 49, "sgx_targetinfo.reserved_49");
_Static_assert(offsetof(struct sgx_targetinfo, configsvn) == 50, "sgx_targetinfo.configsvn");
_Static_assert(offsetof(struct sgx_targetinfo, miscselect) == 52, "sgx_targetinfo.miscselect");
_Static_assert(offsetof(struct sgx_targetinfo, reserved_56) == 56, "sgx_targetinfo.reserved_56");
_Static_assert(offsetof(struct sgx_targetinfo, configid) == 64, "sgx_targetinfo.configid");
_Static_assert(offsetof(struct sgx_targetinfo, reserved_128) == 128, "sgx_targetinfo.reserved_128");

/* A launch enclave's permission. All zero where the signer's hash is in IA32_SGXLEPUBKEYHASH0..3. */
struct sgx_einittoken {
	uint32_t valid; /* bit 0; the rest must be zero */
	uint8_t reserved_4[44];
	uint64_t attributes; /* SECS.ATTRIBUTES of the enclave */
	uint64_t xfrm; /* SECS.XFRM of the enclave */
	uint8_t mrenclave[32]; /* the enclave's measurement */
	uint8_t reserved_96[32];
	uint8_t mrsigner[32]; /* the enclave's signer */
	uint8_t reserved_160[32];
	uint8_t cpusvnle[16]; /* CPUSVN of the launch enclave */
	uint16_t isvprodidle; /* ISVPRODID of the launch enclave */
	uint16_t isvsvnle; /* ISVSVN of the launch enclave */
	uint8_t reserved_212[24];
	uint32_t maskedmiscselectle; /* MISCSELECT of the launch enclave, masked */
	uint64_t maskedattributesle; /* ATTRIBUTES of the launch enclave, masked */
	uint64_t maskedxfrmle; /* XFRM of the launch enclave, masked */
	uint8_t keyid[32]; /* KEYID of the launch key */
	uint8_t mac[16]; /* AES-CMAC under the launch key over bytes 0 to 191 */
} __attribute__((packed));
_Static_assert(sizeof(struct sgx_einittoken) == 304, "size of sgx_einittoken");
_Static_assert(offsetof(struct sgx_einittoken, valid) == 0, "sgx_einittoken.valid");
_Static_assert(offsetof(struct sgx_einittoken, reserved_4) == 4, "sgx_einittoken.reserved_4");
_Static_assert(offsetof(struct sgx_einittoken, attributes) == 48, "sgx_einittoken.attributes");
_Static_assert(offsetof(struct sgx_einittoken, xfrm) == 56, "sgx_einittoken.xfrm");
_Static_assert(offsetof(struct sgx_einittoken, mrenclave) == 64, "sgx_einittoken.mrenclave");
_Static_assert(offsetof(struct sgx_einittoken, reserved_96) == 96, "sgx_einittoken.reserved_96");
_Static_assert(offsetof(struct sgx_einittoken, mrsigner) == 128, "sgx_einittoken.mrsigner");
_Static_assert(offsetof(struct sgx_einittoken, reserved_160) == 160, "sgx_einittoken.reserved_160");
_Static_assert(offsetof(struct sgx_einittoken, cpusvnle) == 192, "sgx_einittoken.cpusvnle");
_Static_assert(offsetof(struct sgx_einittoken, isvprodidle) == 208, "sgx_einittoken.isvprodidle");
_Static_assert(offsetof(struct sgx_einittoken, isvsvnle) == 210, "sgx_einittoken.isvsvnle");
_Static_assert(offsetof(struct sgx_einittoken, reserved_212) == 212, "sgx_einittoken.reserved_212");
_Static_assert(offsetof(struct sgx_einittoken, maskedmiscselectle) == 236, "sgx_einittoken.maskedmiscselectle");
_Static_assert(offsetof(struct sgx_einittoken, maskedattributesle) == 240, "sgx_einittoken.maskedattributesle");
_Static_assert(offsetof(struct sgx_einittoken, maskedxfrmle) == 248, "sgx_einittoken.maskedxfrmle");
_Static_assert(offsetof(struct sgx_einittoken, keyid) == 256, "sgx_einittoken.keyid");
_Static_assert(offsetof(struct sgx_einittoken, mac) == 288, "sgx_einittoken.mac");

/* The certificate of an enclave: who signed which measurement, with which attributes. */
struct sgx_sigstruct {
	uint8_t header[16]; /* SIGSTRUCT_HEADER */
	uint32_t vendor; /* 0, or 0x8086 for Intel's own enclaves */
	uint32_t date; /* 0xYYYYMMDD, binary-coded decimal; EINIT does not look at it */
	uint8_t header2[16]; /* SIGSTRUCT_HEADER2 */
	uint32_t swdefined; /* free for software */
	uint8_t reserved_44[84];
	uint8_t modulus[384]; /* the signer's 3072-bit modulus N */
	uint32_t exponent; /* 3 */
	uint8_t signature[384]; /* S = EM^d mod N, PKCS #1 v1.5 with SHA-256 */
	uint32_t miscselect; /* what SECS.MISCSELECT must be where miscmask is 1 */
	uint32_t miscmask; /* bits of MISCSELECT that are compared */
	uint8_t cet_attributes[1];
	uint8_t cet_attributes_mask[1];
	uint8_t reserved_910[2];
	uint8_t isvfamilyid[16]; /* product family; zero unless KSS */
	uint64_t attributes; /* what SECS.ATTRIBUTES must be where attributemask is 1; INIT clear */
	uint64_t xfrm; /* what SECS.XFRM must be where xfrmmask is 1 */
	uint64_t attributemask; /* bits of ATTRIBUTES that are compared */
	uint64_t xfrmmask; /* bits of XFRM that are compared */
	uint8_t enclavehash[32]; /* the MRENCLAVE that is signed, in digest order */
	uint8_t reserved_992[16];
	uint8_t isvextprodid[16]; /* extended product number; zero unless KSS */
	uint16_t isvprodid; /* product number */
	uint16_t isvsvn; /* security version */
	uint8_t reserved_1028[12];
	uint8_t q1[384]; /* floor(S^2 / N) */
	uint8_t q2[384]; /* floor((S^3 - Q1 * S * N) / N) */
} __attribute__((packed));
_Static_assert(sizeof(struct sgx_sigstruct) == 1808, "size of sgx_sigstruct");
_Static_assert(offsetof(struct sgx_sigstruct, header) == 0, "sgx_sigstruct.header");
_Static_assert(offsetof(struct sgx_sigstruct, vendor) == 16, "sgx_sigstruct.vendor");
_Static_assert(offsetof(struct sgx_sigstruct, date) == 20, "sgx_sigstruct.date");
_Static_assert(offsetof(struct sgx_sigstruct, header2) == 24, "sgx_sigstruct.header2");
_Static_assert(offsetof(struct sgx_sigstruct, swdefined) == 40, "sgx_sigstruct.swdefined");
_Static_assert(offsetof(struct sgx_sigstruct, reserved_44) == 44, "sgx_sigstruct.reserved_44");
_Static_assert(offsetof(struct sgx_sigstruct, modulus) == 128, "sgx_sigstruct.modulus");
_Static_assert(offsetof(struct sgx_sigstruct, exponent) == 512, "sgx_sigstruct.exponent");
_Static_assert(offsetof(struct sgx_sigstruct, signature) == 516, "sgx_sigstruct.signature");
_Static_assert(offsetof(struct sgx_sigstruct, miscselect) == 900, "sgx_sigstruct.miscselect");
_Static_assert(offsetof(struct sgx_sigstruct, miscmask) == 904, "sgx_sigstruct.miscmask");
_Static_assert(offsetof(struct sgx_sigstruct, cet_attributes) == 908, "sgx_sigstruct.cet_attributes");
_Static_assert(offsetof(struct sgx_sigstruct, cet_attributes_mask) == 909, "sgx_sigstruct.cet_attributes_mask");
_Static_assert(offsetof(struct sgx_sigstruct, reserved_910) == 910, "sgx_sigstruct.reserved_910");
_Static_assert(offsetof(struct sgx_sigstruct, isvfamilyid) == 912, "sgx_sigstruct.isvfamilyid");
_Static_assert(offsetof(struct sgx_sigstruct, attributes) == 928, "sgx_sigstruct.attributes");
_Static_assert(offsetof(struct sgx_sigstruct, xfrm) == 936, "sgx_sigstruct.xfrm");
_Static_assert(offsetof(struct sgx_sigstruct, attributemask) == 944, "sgx_sigstruct.attributemask");
_Static_assert(offsetof(struct sgx_sigstruct, xfrmmask) == 952, "sgx_sigstruct.xfrmmask");
_Static_assert(offsetof(struct sgx_sigstruct, enclavehash) == 960, "sgx_sigstruct.enclavehash");
_Static_assert(offsetof(struct sgx_sigstruct, reserved_992) == 992, "sgx_sigstruct.reserved_992");
_Static_assert(offsetof(struct sgx_sigstruct, isvextprodid) == 1008, "sgx_sigstruct.isvextprodid");
_Static_assert(offsetof(struct sgx_sigstruct, isvprodid) == 1024, "sgx_sigstruct.isvprodid");
_Static_assert(offsetof(struct sgx_sigstruct, isvsvn) == 1026, "sgx_sigstruct.isvsvn");
_Static_assert(offsetof(struct sgx_sigstruct, reserved_1028) == 1028, "sgx_sigstruct.reserved_1028");
_Static_assert(offsetof(struct sgx_sigstruct, q1) == 1040, "sgx_sigstruct.q1");
_Static_assert(offsetof(struct sgx_sigstruct, q2) == 1424, "sgx_sigstruct.q2");

/* Details of a #PF or #GP, with MISCSELECT.EXINFO. */
struct sgx_exinfo {
	uint64_t maddr; /* #PF: the full faulting address; #GP: 0 */
	uint32_t errcd; /* error code */
	uint8_t reserved_12[4];
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct sgx_exinfo) == 16, "size of sgx_exinfo");
_Static_assert(offsetof(struct sgx_exinfo, maddr) == 0, "sgx_exinfo.maddr");
_Static_assert(offsetof(struct sgx_exinfo, errcd) == 8, "sgx_exinfo.errcd");
_Static_assert(offsetof(struct sgx_exinfo, reserved_12) == 12, "sgx_exinfo.reserved_12");

/* General registers of an interrupted enclave, at the end of its SSA frame. */
struct sgx_gprsgx {
	uint64_t rax;
	uint64_t rcx;
	uint64_t rdx;
	uint64_t rbx;
	uint64_t rsp;
	uint64_t rbp;
	uint64_t rsi;
	uint64_t rdi;
	uint64_t r8;
	uint64_t r9;
	uint64_t r10;
	uint64_t r11;
	uint64_t r12;
	uint64_t r13;
	uint64_t r14;
	uint64_t r15;
	uint64_t rflags; /* TF is stored as 0 */
	uint64_t rip;
	uint64_t ursp; /* RSP outside, stored by EENTER, given back by an AEX */
	uint64_t urbp; /* RBP outside, stored by EENTER, given back by an AEX */
	uint32_t exitinfo; /* see Exitinfo */
	uint8_t reserved_164[3];
	uint8_t aexnotify; /* bit 0: the enclave wants to be told of the exit */
	uint64_t fsbase;
	uint64_t gsbase;
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct sgx_gprsgx) == 184, "size of sgx_gprsgx");
_Static_assert(offsetof(struct sgx_gprsgx, rax) == 0, "sgx_gprsgx.rax");
_Static_assert(offsetof(struct sgx_gprsgx, rcx) == 8, "sgx_gprsgx.rcx");
_Static_assert(offsetof(struct sgx_gprsgx, rdx) == 16, "sgx_gprsgx.rdx");
_Static_assert(offsetof(struct sgx_gprsgx, rbx) == 24, "sgx_gprsgx.rbx");
_Static_assert(offsetof(struct sgx_gprsgx, rsp) == 32, "sgx_gprsgx.rsp");
_Static_assert(offsetof(struct sgx_gprsgx, rbp) == 40, "sgx_gprsgx.rbp");
_Static_assert(offsetof(struct sgx_gprsgx, rsi) == 48, "sgx_gprsgx.rsi");
_Static_assert(offsetof(struct sgx_gprsgx, rdi) == 56, "sgx_gprsgx.rdi");
_Static_assert(offsetof(struct sgx_gprsgx, r8) == 64, "sgx_gprsgx.r8");
_Static_assert(offsetof(struct sgx_gprsgx, r9) == 72, "sgx_gprsgx.r9");
_Static_assert(offsetof(struct sgx_gprsgx, r10) == 80, "sgx_gprsgx.r10");
_Static_assert(offsetof(struct sgx_gprsgx, r11) == 88, "sgx_gprsgx.r11");
_Static_assert(offsetof(struct sgx_gprsgx, r12) == 96, "sgx_gprsgx.r12");
_Static_assert(offsetof(struct sgx_gprsgx, r13) == 104, "sgx_gprsgx.r13");
_Static_assert(offsetof(struct sgx_gprsgx, r14) == 112, "sgx_gprsgx.r14");
_Static_assert(offsetof(struct sgx_gprsgx, r15) == 120, "sgx_gprsgx.r15");
_Static_assert(offsetof(struct sgx_gprsgx, rflags) == 128, "sgx_gprsgx.rflags");
_Static_assert(offsetof(struct sgx_gprsgx, rip) == 136, "sgx_gprsgx.rip");
_Static_assert(offsetof(struct sgx_gprsgx, ursp) == 144, "sgx_gprsgx.ursp");
_Static_assert(offsetof(struct sgx_gprsgx, urbp) == 152, "sgx_gprsgx.urbp");
_Static_assert(offsetof(struct sgx_gprsgx, exitinfo) == 160, "sgx_gprsgx.exitinfo");
_Static_assert(offsetof(struct sgx_gprsgx, reserved_164) == 164, "sgx_gprsgx.reserved_164");
_Static_assert(offsetof(struct sgx_gprsgx, aexnotify) == 167, "sgx_gprsgx.aexnotify");
_Static_assert(offsetof(struct sgx_gprsgx, fsbase) == 168, "sgx_gprsgx.fsbase");
_Static_assert(offsetof(struct sgx_gprsgx, gsbase) == 176, "sgx_gprsgx.gsbase");

/* What ECREATE, EADD, EAUG, EWB and ELD* are pointed at by RBX. */
struct sgx_pageinfo {
	uint64_t linaddr; /* linear address of the page in its enclave, page aligned; an output of EWB */
	uint64_t srcpge; /* linear address of 4096 bytes outside the EPC, page aligned */
	uint64_t secinfo; /* linear address of a SECINFO (64-byte aligned) or, for EWB and ELD*, of a PCMD (128) */
	uint64_t secs; /* linear address of the SECS in the EPC, page aligned; 0 where there is none */
} __attribute__((packed, aligned(32)));
_Static_assert(sizeof(struct sgx_pageinfo) == 32, "size of sgx_pageinfo");
_Static_assert(offsetof(struct sgx_pageinfo, linaddr) == 0, "sgx_pageinfo.linaddr");
_Static_assert(offsetof(struct sgx_pageinfo, srcpge) == 8, "sgx_pageinfo.srcpge");
_Static_assert(offsetof(struct sgx_pageinfo, secinfo) == 16, "sgx_pageinfo.secinfo");
_Static_assert(offsetof(struct sgx_pageinfo, secs) == 24, "sgx_pageinfo.secs");

/* Permissions, state and type of one page. */
struct sgx_secinfo {
	uint64_t flags; /* SecinfoFlags, page type in bits 15:8, the rest zero */
	uint8_t reserved_8[56];
} __attribute__((packed, aligned(64)));
_Static_assert(sizeof(struct sgx_secinfo) == 64, "size of sgx_secinfo");
_Static_assert(offsetof(struct sgx_secinfo, flags) == 0, "sgx_secinfo.flags");
_Static_assert(offsetof(struct sgx_secinfo, reserved_8) == 8, "sgx_secinfo.reserved_8");

/* What EWB writes beside an evicted page. */
struct sgx_pcmd {
	struct sgx_secinfo secinfo; /* flags of the page, PENDING, MODIFIED and PR included */
	uint64_t enclaveid; /* EID of the owner; 0 for a VA page */
	uint8_t reserved_72[40];
	uint8_t mac[16]; /* AES-GCM tag */
} __attribute__((packed, aligned(128)));
_Static_assert(sizeof(struct sgx_pcmd) == 128, "size of sgx_pcmd");
_Static_assert(offsetof(struct sgx_pcmd, secinfo) == 0, "sgx_pcmd.secinfo");
_Static_assert(offsetof(struct sgx_pcmd, enclaveid) == 64, "sgx_pcmd.enclaveid");
_Static_assert(offsetof(struct sgx_pcmd, reserved_72) == 72, "sgx_pcmd.reserved_72");
_Static_assert(offsetof(struct sgx_pcmd, mac) == 112, "sgx_pcmd.mac");

/* The page that holds an enclave's range, attributes and identity. Never mapped into the enclave. */
struct sgx_secs {
	uint64_t size; /* bytes; a power of two, at least two pages, below the limit of CPUID.12H.0:EDX */
	uint64_t baseaddr; /* linear address; a multiple of size, canonical */
	uint32_t ssaframesize; /* pages in one SSA frame */
	uint32_t miscselect; /* Miscselect bits; a subset of CPUID.12H.0:EBX */
	uint8_t cet_leg_bitmap_offset[8];
	uint8_t cet_attributes[1];
	uint8_t reserved_33[15];
	uint64_t attributes; /* Attributes bits; a subset of CPUID.12H.1:EBX:EAX, INIT clear in the source */
	uint64_t xfrm; /* Xfrm bits; a subset of CPUID.12H.1:EDX:ECX that XSETBV would accept */
	uint8_t mrenclave[32]; /* measurement, in digest order; ECREATE ignores the source's bytes */
	uint8_t reserved_96[32];
	uint8_t mrsigner[32]; /* SHA-256 of the signer's modulus; written by EINIT */
	uint8_t reserved_160[32];
	uint8_t configid[64]; /* all zero unless ATTRIBUTES.KSS */
	uint16_t isvprodid; /* product number; 0 until EINIT */
	uint16_t isvsvn; /* security version; 0 until EINIT */
	uint16_t configsvn; /* 0 unless ATTRIBUTES.KSS */
	uint8_t reserved_262[3834];
} __attribute__((packed, aligned(4096)));
_Static_assert(sizeof(struct sgx_secs) == 4096, "size of sgx_secs");
_Static_assert(offsetof(struct sgx_secs, size) == 0, "sgx_secs.size");
_Static_assert(offsetof(struct sgx_secs, baseaddr) == 8, "sgx_secs.baseaddr");
_Static_assert(offsetof(struct sgx_secs, ssaframesize) == 16, "sgx_secs.ssaframesize");
_Static_assert(offsetof(struct sgx_secs, miscselect) == 20, "sgx_secs.miscselect");
_Static_assert(offsetof(struct sgx_secs, cet_leg_bitmap_offset) == 24, "sgx_secs.cet_leg_bitmap_offset");
_Static_assert(offsetof(struct sgx_secs, cet_attributes) == 32, "sgx_secs.cet_attributes");
_Static_assert(offsetof(struct sgx_secs, reserved_33) == 33, "sgx_secs.reserved_33");
_Static_assert(offsetof(struct sgx_secs, attributes) == 48, "sgx_secs.attributes");
_Static_assert(offsetof(struct sgx_secs, xfrm) == 56, "sgx_secs.xfrm");
_Static_assert(offsetof(struct sgx_secs, mrenclave) == 64, "sgx_secs.mrenclave");
_Static_assert(offsetof(struct sgx_secs, reserved_96) == 96, "sgx_secs.reserved_96");
_Static_assert(offsetof(struct sgx_secs, mrsigner) == 128, "sgx_secs.mrsigner");
_Static_assert(offsetof(struct sgx_secs, reserved_160) == 160, "sgx_secs.reserved_160");
_Static_assert(offsetof(struct sgx_secs, configid) == 192, "sgx_secs.configid");
_Static_assert(offsetof(struct sgx_secs, isvprodid) == 256, "sgx_secs.isvprodid");
_Static_assert(offsetof(struct sgx_secs, isvsvn) == 258, "sgx_secs.isvsvn");
_Static_assert(offsetof(struct sgx_secs, configsvn) == 260, "sgx_secs.configsvn");
_Static_assert(offsetof(struct sgx_secs, reserved_262) == 262, "sgx_secs.reserved_262");

/* One thread's way into an enclave. Enclave code can neither read nor write it. */
struct sgx_tcs {
	uint64_t state; /* 0 inactive, 1 active; EADD stores 0 */
	uint64_t flags; /* TcsFlags; EADD stores DBGOPTIN as 0 */
	uint64_t ossa; /* bytes from BASEADDR to SSA frame 0; page aligned */
	uint32_t cssa; /* current SSA frame; EADD stores 0 */
	uint32_t nssa; /* number of SSA frames */
	uint64_t oentry; /* bytes from BASEADDR to the entry point */
	uint64_t aep; /* asynchronous exit pointer of the current entry; EADD stores 0 */
	uint64_t ofsbase; /* bytes from BASEADDR to the FS base; page aligned */
	uint64_t ogsbase; /* bytes from BASEADDR to the GS base; page aligned */
	uint32_t fslimit; /* 32-bit enclaves: low 12 bits all ones */
	uint32_t gslimit; /* 32-bit enclaves: low 12 bits all ones */
	uint8_t ocetssa[8];
	uint8_t prevssp[8];
	uint8_t reserved_88[4008];
} __attribute__((packed, aligned(4096)));
_Static_assert(sizeof(struct sgx_tcs) == 4096, "size of sgx_tcs");
_Static_assert(offsetof(struct sgx_tcs, state) == 0, "sgx_tcs.state");
_Static_assert(offsetof(struct sgx_tcs, flags) == 8, "sgx_tcs.flags");
_Static_assert(offsetof(struct sgx_tcs, ossa) == 16, "sgx_tcs.ossa");
_Static_assert(offsetof(struct sgx_tcs, cssa) == 24, "sgx_tcs.cssa");
_Static_assert(offsetof(struct sgx_tcs, nssa) == 28, "sgx_tcs.nssa");
_Static_assert(offsetof(struct sgx_tcs, oentry) == 32, "sgx_tcs.oentry");
_Static_assert(offsetof(struct sgx_tcs, aep) == 40, "sgx_tcs.aep");
_Static_assert(offsetof(struct sgx_tcs, ofsbase) == 48, "sgx_tcs.ofsbase");
_Static_assert(offsetof(struct sgx_tcs, ogsbase) == 56, "sgx_tcs.ogsbase");
_Static_assert(offsetof(struct sgx_tcs, fslimit) == 64, "sgx_tcs.fslimit");
_Static_assert(offsetof(struct sgx_tcs, gslimit) == 68, "sgx_tcs.gslimit");
_Static_assert(offsetof(struct sgx_tcs, ocetssa) == 72, "sgx_tcs.ocetssa");
_Static_assert(offsetof(struct sgx_tcs, prevssp) == 80, "sgx_tcs.prevssp");
_Static_assert(offsetof(struct sgx_tcs, reserved_88) == 88, "sgx_tcs.reserved_88");

#endif /* __ASSEMBLER__ */

#endif /* SWSGX_ISA_H */
