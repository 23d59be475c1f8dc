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
1	2026-12-01 03:28:14.233839+00	883	operator	1	\N	{"id": "1", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:14.231643+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:14.231643+00:00", "completed_at": null}
2	2026-12-01 03:28:14.385648+00	884	operator	2	\N	{"id": "2", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:14.383756+00:00", "completed_at": null}
3	2026-12-01 03:28:14.44128+00	885	operator	3	\N	{"id": "3", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:14.439081+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:14.439081+00:00", "completed_at": null}
4	2026-12-01 03:28:29.542292+00	910	worker-2	1	{"id": "1", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:14.231643+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:14.231643+00:00", "completed_at": null}	{"id": "1", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:14.231643+00:00", "started_at": "2026-12-01T03:28:29.539662+00:00", "lease_until": "2026-12-01T03:33:29.539662+00:00", "start_after": "2026-12-01T03:28:14.231643+00:00", "completed_at": null}
5	2026-12-01 03:28:30.05719+00	913	worker-1	2	{"id": "2", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:14.383756+00:00", "completed_at": null}	{"id": "2", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": "2026-12-01T03:28:30.044348+00:00", "lease_until": "2026-12-01T03:33:30.044348+00:00", "start_after": "2026-12-01T03:28:14.383756+00:00", "completed_at": null}
6	2026-12-01 03:28:31.800311+00	922	worker-2	1	{"id": "1", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:14.231643+00:00", "started_at": "2026-12-01T03:28:29.539662+00:00", "lease_until": "2026-12-01T03:33:29.539662+00:00", "start_after": "2026-12-01T03:28:14.231643+00:00", "completed_at": null}	{"id": "1", "tool": "mail", "status": "sent", "attempts": 1, "created_at": "2026-12-01T03:28:14.231643+00:00", "started_at": "2026-12-01T03:28:29.539662+00:00", "lease_until": "2026-12-01T03:33:29.539662+00:00", "start_after": "2026-12-01T03:29:01.79971+00:00", "completed_at": "2026-12-01T03:28:31.79971+00:00"}
7	2026-12-01 03:28:31.901833+00	925	worker-2	3	{"id": "3", "tool": "mail", "status": "queued", "attempts": 0, "created_at": "2026-12-01T03:28:14.439081+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:28:14.439081+00:00", "completed_at": null}	{"id": "3", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:14.439081+00:00", "started_at": "2026-12-01T03:28:31.901357+00:00", "lease_until": "2026-12-01T03:33:31.901357+00:00", "start_after": "2026-12-01T03:28:14.439081+00:00", "completed_at": null}
8	2026-12-01 03:28:34.99037+00	960	worker-2	3	{"id": "3", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:14.439081+00:00", "started_at": "2026-12-01T03:28:31.901357+00:00", "lease_until": "2026-12-01T03:33:31.901357+00:00", "start_after": "2026-12-01T03:28:14.439081+00:00", "completed_at": null}	{"id": "3", "tool": "mail", "status": "sent", "attempts": 1, "created_at": "2026-12-01T03:28:14.439081+00:00", "started_at": "2026-12-01T03:28:31.901357+00:00", "lease_until": "2026-12-01T03:33:31.901357+00:00", "start_after": "2026-12-01T03:29:04.990033+00:00", "completed_at": "2026-12-01T03:28:34.990033+00:00"}
9	2026-12-01 03:33:31.743222+00	2174	worker-2	2	{"id": "2", "tool": "mail", "status": "sending", "attempts": 1, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": "2026-12-01T03:28:30.044348+00:00", "lease_until": "2026-12-01T03:33:30.044348+00:00", "start_after": "2026-12-01T03:28:14.383756+00:00", "completed_at": null}	{"id": "2", "tool": "mail", "status": "sending", "attempts": 2, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": "2026-12-01T03:33:31.742909+00:00", "lease_until": "2026-12-01T03:38:31.742909+00:00", "start_after": "2026-12-01T03:28:14.383756+00:00", "completed_at": null}
10	2026-12-01 03:33:59.571087+00	2181	worker-1	2	{"id": "2", "tool": "mail", "status": "sending", "attempts": 2, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": "2026-12-01T03:33:31.742909+00:00", "lease_until": "2026-12-01T03:38:31.742909+00:00", "start_after": "2026-12-01T03:28:14.383756+00:00", "completed_at": null}	{"id": "2", "tool": "mail", "status": "sent", "attempts": 2, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": "2026-12-01T03:33:31.742909+00:00", "lease_until": "2026-12-01T03:38:31.742909+00:00", "start_after": "2026-12-01T03:34:29.570209+00:00", "completed_at": "2026-12-01T03:33:59.570209+00:00"}
11	2026-12-01 03:34:31.745664+00	2183	worker-2	2	{"id": "2", "tool": "mail", "status": "sent", "attempts": 2, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": "2026-12-01T03:33:31.742909+00:00", "lease_until": "2026-12-01T03:38:31.742909+00:00", "start_after": "2026-12-01T03:34:29.570209+00:00", "completed_at": "2026-12-01T03:33:59.570209+00:00"}	{"id": "2", "tool": "mail", "status": "sent", "attempts": 2, "created_at": "2026-12-01T03:28:14.383756+00:00", "started_at": "2026-12-01T03:33:31.742909+00:00", "lease_until": "2026-12-01T03:38:31.742909+00:00", "start_after": "2026-12-01T03:35:01.745334+00:00", "completed_at": "2026-12-01T03:34:31.745334+00:00"}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 11, true);


--
-- PostgreSQL database dump complete
--


