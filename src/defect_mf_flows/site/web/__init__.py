"""FireWorks' web UI for a site or a campaign folder: closed, offline, narrowed to a campaign."""

from defect_mf_flows.site.web.access import Access, read_access
from defect_mf_flows.site.web.app import create_app
from defect_mf_flows.site.web.serving import listen, serve, url_of

__all__ = ["Access", "create_app", "listen", "read_access", "serve", "url_of"]
