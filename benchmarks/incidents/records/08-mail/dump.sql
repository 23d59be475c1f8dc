--
-- PostgreSQL database dump
--


-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

--
-- Name: job_harness_audit; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_harness_audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    writer text DEFAULT current_setting('application_name'::text) NOT NULL,
    job text NOT NULL,
    before jsonb,
    after jsonb
)
PARTITION BY RANGE (at);


--
-- Name: TABLE job_harness_audit; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.job_harness_audit IS '{"jobs": "mail", "table": "mail", "columns": {"id": "job.id", "status": "job.status", "tool": "''mail''", "attempts": "job.attempts", "created_at": "job.created_at", "start_after": "job.run_after", "started_at": "job.locked_at", "lease_until": "job.locked_at + interval ''5 minutes''", "completed_at": "job.done_at"}, "status": {"queued": "PENDING", "sending": "PROCESSING", "sent": "COMPLETED", "failed": "FAILED"}, "deletes": false, "time_zone": null}';


SET default_table_access_method = heap;

--
-- Name: job_harness_audit_20261201; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_harness_audit_20261201 (
    id bigint CONSTRAINT job_harness_audit_id_not_null NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT job_harness_audit_at_not_null NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() CONSTRAINT job_harness_audit_xid_not_null NOT NULL,
    writer text DEFAULT current_setting('application_name'::text) CONSTRAINT job_harness_audit_writer_not_null NOT NULL,
    job text CONSTRAINT job_harness_audit_job_not_null NOT NULL,
    before jsonb,
    after jsonb
);


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.job_harness_audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.job_harness_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: job_harness_audit_20261201; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.job_harness_audit ATTACH PARTITION public.job_harness_audit_20261201 FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2026-12-02 00:00:00+00');


--
-- Data for Name: job_harness_audit_20261201; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.job_harness_audit_20261201 (id, at, xid, writer, job, before, after) FROM stdin;
1	2026-12-01 03:28:17.611932+00	889	operator	1	\N	{"id": "1", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:17.601424+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:17.601424+00:00", "completed_at": null}
2	2026-12-01 03:28:17.726088+00	890	operator	2	\N	{"id": "2", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:17.72406+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:17.72406+00:00", "completed_at": null}
3	2026-12-01 03:28:17.889392+00	891	operator	3	\N	{"id": "3", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:17.887431+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:17.887431+00:00", "completed_at": null}
4	2026-12-01 03:28:32.359262+00	928	worker-1	1	{"id": "1", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:17.601424+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:17.601424+00:00", "completed_at": null}	{"id": "1", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:17.601424+00:00", "started_at": "2026-12-01T03:28:32.336458+00:00", "lease_until": "2026-12-01T03:33:32.336458+00:00", "start_after": "2026-12-01T03:28:17.601424+00:00", "completed_at": null}
5	2026-12-01 03:28:32.913491+00	942	worker-2	2	{"id": "2", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:17.72406+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:17.72406+00:00", "completed_at": null}	{"id": "2", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:17.72406+00:00", "started_at": "2026-12-01T03:28:32.898661+00:00", "lease_until": "2026-12-01T03:33:32.898661+00:00", "start_after": "2026-12-01T03:28:17.72406+00:00", "completed_at": null}
6	2026-12-01 03:28:34.601688+00	953	worker-1	1	{"id": "1", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:17.601424+00:00", "started_at": "2026-12-01T03:28:32.336458+00:00", "lease_until": "2026-12-01T03:33:32.336458+00:00", "start_after": "2026-12-01T03:28:17.601424+00:00", "completed_at": null}	{"id": "1", "tool": "mail", "status": "sent", "attempts": 1, "created_at": "2026-12-01T03:28:17.601424+00:00", "started_at": "2026-12-01T03:28:32.336458+00:00", "lease_until": "2026-12-01T03:33:32.336458+00:00", "start_after": "2026-12-01T03:29:04.601095+00:00", "completed_at": "2026-12-01T03:28:34.601095+00:00"}
7	2026-12-01 03:28:34.627743+00	954	worker-1	3	{"id": "3", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:17.887431+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:17.887431+00:00", "completed_at": null}	{"id": "3", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:17.887431+00:00", "started_at": "2026-12-01T03:28:34.62728+00:00", "lease_until": "2026-12-01T03:33:34.62728+00:00", "start_after": "2026-12-01T03:28:17.887431+00:00", "completed_at": null}
8	2026-12-01 03:28:37.804648+00	975	worker-1	3	{"id": "3", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:17.887431+00:00", "started_at": "2026-12-01T03:28:34.62728+00:00", "lease_until": "2026-12-01T03:33:34.62728+00:00", "start_after": "2026-12-01T03:28:17.887431+00:00", "completed_at": null}	{"id": "3", "tool": "mail", "status": "sent", "attempts": 1, "created_at": "2026-12-01T03:28:17.887431+00:00", "started_at": "2026-12-01T03:28:34.62728+00:00", "lease_until": "2026-12-01T03:33:34.62728+00:00", "start_after": "2026-12-01T03:29:07.804333+00:00", "completed_at": "2026-12-01T03:28:37.804333+00:00"}
9	2026-12-01 03:33:34.664321+00	2176	worker-1	2	{"id": "2", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:17.72406+00:00", "started_at": "2026-12-01T03:28:32.898661+00:00", "lease_until": "2026-12-01T03:33:32.898661+00:00", "start_after": "2026-12-01T03:28:17.72406+00:00", "completed_at": null}	{"id": "2", "tool": "mail", "status": "sending", "attempts": 2, "created_at": "2026-12-01T03:28:17.72406+00:00", "started_at": "2026-12-01T03:33:34.664042+00:00", "lease_until": "2026-12-01T03:38:34.664042+00:00", "start_after": "2026-12-01T03:28:17.72406+00:00", "completed_at": null}
10	2026-12-01 03:34:08.186444+00	2182	worker-2	2	{"id": "2", "tool": "mail", "status": "sending", "attempts": 2, "created_at": "2026-12-01T03:28:17.72406+00:00", "started_at": "2026-12-01T03:33:34.664042+00:00", "lease_until": "2026-12-01T03:38:34.664042+00:00", "start_after": "2026-12-01T03:28:17.72406+00:00", "completed_at": null}	{"id": "2", "tool": "mail", "status": "sent", "attempts": 2, "created_at": "2026-12-01T03:28:17.72406+00:00", "started_at": "2026-12-01T03:33:34.664042+00:00", "lease_until": "2026-12-01T03:38:34.664042+00:00", "start_after": "2026-12-01T03:34:38.185574+00:00", "completed_at": "2026-12-01T03:34:08.185574+00:00"}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 10, true);


--
-- PostgreSQL database dump complete
--


